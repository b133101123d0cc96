/**
 * The schema of a plan in our own form: what `shardserve tune -f FILE` reads. `shardserve tune --schema` prints it as JSON Schema.
 *
 * In      a value that a YAML or JSON file gave
 * Out     PlanValue, checked; JSON Schema for editors
 * Errors  Error with every field that is wrong: its path, what it must be, what it is
 */
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { SEARCH_MODES } from '../run/tune-run.js';
import { METRIC_NAMES } from '../units/metrics.js';

const optional = Type.Optional;
const closed = { additionalProperties: false };
const Scalar = Type.Union([Type.String(), Type.Number(), Type.Boolean()]);
const Properties = Type.Record(Type.String(), Scalar, {
  description: 'keys of serving.properties (server/config/KEYS.md) and their values',
});
const Values = Type.Union(
  [
    Type.Array(Scalar, { minItems: 1 }),
    Type.Object(
      {
        start: Type.Number(),
        stop: Type.Number(),
        step: optional(Type.Number({ exclusiveMinimum: 0 })),
        factor: optional(Type.Number({ exclusiveMinimum: 1 })),
      },
      closed,
    ),
  ],
  { description: 'a list, or a range: start, stop (included), and step (1) or factor' },
);
const Space = Type.Record(Type.String(), Values, {
  description: 'keys that are varied; `workers` sets minWorkers and maxWorkers together',
});
const Length = Type.Union(
  [
    Type.Integer({ minimum: 1 }),
    Type.Object(
      {
        mean: optional(Type.Number({ minimum: 1 })),
        deviation: optional(Type.Number({ minimum: 0 })),
        min: optional(Type.Integer({ minimum: 1 })),
        max: optional(Type.Integer({ minimum: 1 })),
      },
      closed,
    ),
  ],
  { description: 'tokens: a number, a range (min, max), or a bell (mean, deviation, and its ends)' },
);
const Texts = Type.Record(Type.String(), Type.String());

const Request = Type.Object(
  {
    dialect: optional(
      Type.Union(['djl', 'openai', 'openai-chat', 'oip-grpc'].map((name) => Type.Literal(name))),
    ),
    stream: optional(Type.Boolean()),
    prompt_tokens: optional(Length),
    output_tokens: optional(Length),
    shared_prefix_tokens: optional(Type.Integer({ minimum: 0 })),
    prompts: optional(
      Type.String({ description: 'a file of prompts: a line each, or JSON lines with `prompt`' }),
    ),
    parameters: optional(Type.Record(Type.String(), Type.Unknown())),
    headers: optional(Texts),
    path: optional(Type.String({ pattern: '^/' })),
    inputs: optional(
      Type.Array(
        Type.Object(
          {
            name: Type.String(),
            datatype: optional(Type.String()),
            shape: optional(Type.Array(Type.Integer({ minimum: 1 }))),
            below: optional(Type.Number({ exclusiveMinimum: 0 })),
          },
          closed,
        ),
        { description: "tensors, where the model's own description does not say enough" },
      ),
    ),
    body: optional(Type.String({ description: 'a file that is sent as it is' })),
    content_type: optional(Type.String()),
  },
  closed,
);
const Constraints = Type.Partial(
  Type.Object(
    Object.fromEntries(
      METRIC_NAMES.map((name) => [
        name,
        Type.Object({ min: optional(Type.Number()), max: optional(Type.Number()) }, closed),
      ]),
    ),
    closed,
  ),
);
const Objectives = Type.Partial(
  Type.Object(
    Object.fromEntries(METRIC_NAMES.map((name) => [name, Type.Number({ exclusiveMinimum: 0 })])),
    closed,
  ),
);
const seconds = (description: string) => optional(Type.Number({ minimum: 0, description }));
const whole = (minimum: number, description: string) => optional(Type.Integer({ minimum, description }));

export const PlanSchema = Type.Object(
  {
    models: Type.Record(
      Type.String(),
      Type.Object(
        {
          path: optional(Type.String({ description: 'its folder; not needed where server.url is' })),
          weight: optional(Type.Number({ exclusiveMinimum: 0 })),
          properties: optional(Properties),
          space: optional(Space),
          request: optional(Request),
          constraints: optional(Constraints),
          objectives: optional(Objectives),
        },
        closed,
      ),
      { minProperties: 1 },
    ),
    server: optional(
      Type.Object(
        {
          url: optional(
            Type.String({ description: 'a server that runs already: its load is varied, nothing else' }),
          ),
          grpc_address: optional(Type.String()),
          metrics_url: optional(Type.String()),
          environment: optional(Texts),
          space: optional(Space),
        },
        closed,
      ),
    ),
    request: optional(Request),
    load: optional(
      Type.Object(
        {
          concurrency: optional(Type.Union([Type.Integer({ minimum: 1 }), Values])),
          rate: optional(Type.Union([Type.Number({ exclusiveMinimum: 0 }), Values])),
          even: optional(Type.Boolean({ description: 'arrivals of a rate at equal gaps, not by Poisson' })),
          trace: optional(Type.String()),
          warm_up_seconds: seconds('before anything counts'),
          warm_up_requests: whole(0, 'that must have ended by then'),
          window_seconds: seconds('of one window'),
          window_requests: whole(1, 'that a window has at least'),
          max_windows: whole(1, 'before it counts as unstable'),
          agree: whole(1, 'windows that must agree'),
          within: optional(
            Type.Number({ exclusiveMinimum: 0, description: 'relative spread that counts as agreeing' }),
          ),
          requests: whole(1, 'in one window, instead of windows'),
          request_timeout_seconds: seconds('of one request'),
          max_outstanding: whole(1, 'requests at once of an open loop'),
        },
        closed,
      ),
    ),
    constraints: optional(Constraints),
    objectives: optional(Objectives),
    goodput: optional(
      Type.Object(
        {
          latency_ms: optional(Type.Number()),
          first_token_ms: optional(Type.Number()),
          token_gap_ms: optional(Type.Number()),
        },
        closed,
      ),
    ),
    search: optional(
      Type.Object(
        {
          mode: optional(Type.Union(SEARCH_MODES.map((name) => Type.Literal(name)))),
          max_measurements: whole(1, "the default's own among them"),
          max_minutes: seconds('after which the search ends; the repeats still come'),
          patience: whole(0, 'measurements without a gain that end it; 0: none'),
          seed: whole(0, 'of search and load'),
          leave_early: optional(Type.Boolean({ description: 'grid: leave a load that gains nothing more' })),
        },
        closed,
      ),
    ),
    compare: optional(
      Type.Object(
        {
          top: whole(1, 'configurations that are repeated beside the default'),
          rounds: whole(0, 'repeats of each'),
          level: optional(Type.Number({ exclusiveMinimum: 0.5, exclusiveMaximum: 1 })),
          least_gain: optional(Type.Number({ minimum: 0 })),
        },
        closed,
      ),
    ),
    output: optional(Type.String({ description: 'folder of journal, tables and reports' })),
    price_per_hour: optional(Type.Number({ minimum: 0 })),
    profile: optional(Type.Boolean()),
    pictures: optional(
      Type.Boolean({ description: 'PNG and PDF of the page, where there is a browser (true)' }),
    ),
    keep_requests: optional(Type.Boolean({ description: 'every request as a JSON line' })),
  },
  { $id: 'https://shardserve.invalid/tune.schema.json', title: 'shardserve tune', ...closed },
);
export type PlanValue = Static<typeof PlanSchema>;
export type RequestValue = Static<typeof Request>;
export type ValuesValue = Static<typeof Values>;

/** @throws Error */
export function checkPlan(value: unknown, file: string): PlanValue {
  if (Value.Check(PlanSchema, value)) return value;
  const errors = [...Value.Errors(PlanSchema, value)].slice(0, 10);
  const sentences = errors.map(
    ({ message, path, value: given }) =>
      `${path || '/'}: ${message}, got ${JSON.stringify(given)?.slice(0, 80)}`,
  );
  throw new Error(`${file}:\n  ${sentences.join('\n  ')}`);
}
