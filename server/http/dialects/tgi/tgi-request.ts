/**
 * Text Generation Inference's body → GenerateRequests.
 *
 * In      {"inputs": text, "parameters": {…}, "stream"?: bool, "model"?: name}
 * Out     a valid request, or best_of of them
 * Limits  MAX_BEST_OF, MAX_STOPS; the ranges of sampling-fields.ts
 * Errors  InvalidInput in its own words where it has some (the dialect answers 422)
 * Source  Text Generation Inference's router: names, defaults, what excludes what
 */
import { type Static, Type } from '@sinclair/typebox';
import type { AnswerConstraint } from '../../../requests/answer-constraint.js';
import { boundedJson } from '../../../requests/bounded-json.js';
import type { GenerateRequest, RequestSampling } from '../../../requests/generate-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import {
  asList,
  fields,
  present,
  refuseUnserved,
  saltOf,
  samplingOf,
  textNames,
  textShapeOf,
} from '../../../requests/sampling-fields.js';
import type { Target } from '../../../requests/target.js';
import { type Checked, compileValidator } from '../../../requests/validation.js';

export const MAX_BEST_OF = 8;
export const MAX_STOPS = 4;
/** Its default. */
const DEFAULT_MAX_NEW_TOKENS = 1024;
const SAMPLING_DEFAULTS: RequestSampling = { doSample: false, temperature: 1 };

const optional = Type.Optional;
const Grammar = Type.Object({
  type: Type.Union([Type.Literal('json'), Type.Literal('regex'), Type.Literal('json_schema')], {
    expects: 'json, regex or json_schema',
  }),
  value: Type.Unknown(),
});
const Parameters = Type.Object({
  ...textNames,
  do_sample: optional(Type.Boolean()),
  max_new_tokens: optional(fields.maxNewTokens),
  return_full_text: optional(Type.Boolean()),
  details: optional(Type.Boolean()),
  decoder_input_details: optional(Type.Boolean()),
  top_n_tokens: optional(fields.topLogprobs),
  best_of: optional(Type.Integer({ minimum: 1, maximum: MAX_BEST_OF })),
  grammar: optional(Grammar),
  truncate: optional(fields.keptTokens),
});

export const TgiBody = Type.Object({
  inputs: Type.String({ minLength: 1 }),
  parameters: optional(Parameters),
  stream: optional(Type.Boolean()),
  model: optional(Type.String({ minLength: 1, maxLength: 512 })),
});
export type TgiBody = Static<typeof TgiBody>;

const validator = compileValidator(TgiBody);
const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  watermark: [false],
  adapter_id: [],
};

export function checkTgiBody(body: unknown): Checked<TgiBody> {
  const given = (body ?? {}) as Record<string, unknown>;
  const { parameters } = given;
  // Its clients send null for what they leave out.
  const named = Object.entries((parameters ?? {}) as object).filter(([, value]) => value !== null);
  const unserved = refuseUnserved(Object.fromEntries(named), UNSERVED);
  if (unserved !== null) return { error: unserved };
  const checked = validator.check(
    typeof parameters === 'object' ? { ...given, parameters: Object.fromEntries(named) } : body,
  );
  if ('error' in checked) return checked;
  const refusal = contradiction(checked.value.parameters ?? {});
  return refusal === null ? checked : { error: refusal };
}

function contradiction(given: NonNullable<TgiBody['parameters']>): InvalidInput | null {
  const stops = asList(given.stop).length;
  if (stops > MAX_STOPS)
    return new InvalidInput(`\`stop\` supports up to ${MAX_STOPS} stop sequences. Given: ${stops}`, 'stop');
  const isSampled = samples(given);
  if ((given.best_of ?? 1) > 1 && !isSampled)
    return new InvalidInput('you must use sampling when `best_of` is > 1', 'best_of');
  if ((given.best_of ?? 1) > 1 && given.seed !== undefined)
    return new InvalidInput('`seed` must not be set when `best_of` > 1', 'seed');
  return null;
}

/** As it decides: any parameter of sampling samples. */
const samples = ({
  do_sample,
  temperature,
  top_k,
  top_p,
  typical_p,
}: NonNullable<TgiBody['parameters']>): boolean =>
  do_sample === true || [temperature, top_k, top_p, typical_p].some((one) => one !== undefined);

/** What of the request shapes the answer. */
export interface TgiFormat {
  details: boolean;
  fullText: boolean;
  prefill: boolean;
  topTokens: boolean;
}

export function tgiFormat({ parameters = {} }: TgiBody): TgiFormat {
  return {
    details: parameters.details ?? false,
    fullText: parameters.return_full_text ?? false,
    prefill: parameters.decoder_input_details ?? false,
    topTokens: (parameters.top_n_tokens ?? 0) > 0,
  };
}

/** @throws InvalidInput: what a stream cannot have */
export function tgiRequests(body: TgiBody, target: Target, streamed: boolean): GenerateRequest[] {
  const given = body.parameters ?? {};
  const bestOf = given.best_of ?? 1;
  if (streamed && given.decoder_input_details === true)
    throw new InvalidInput(
      '`decoder_input_details` == true is not supported when streaming tokens',
      'stream',
    );
  if (streamed && bestOf > 1)
    throw new InvalidInput('`best_of` != 1 is not supported when streaming tokens', 'stream');
  const topLogprobs = given.top_n_tokens ?? 0;
  const request: GenerateRequest = {
    kind: 'generate',
    ...target,
    ...saltOf(target.cacheSalt, given.cache_salt),
    prompt: { kind: 'text', text: body.inputs },
    maxNewTokens: given.max_new_tokens ?? null,
    usualNewTokens: DEFAULT_MAX_NEW_TOKENS,
    sampling: { ...samplingOf(given), ...present('doSample', samples(given)) },
    samplingDefaults: SAMPLING_DEFAULTS,
    ...textShapeOf(given),
    ...(given.truncate !== undefined && { keptPromptTokens: given.truncate }),
    // Its stop sequences are part of the text.
    includeStopString: given.include_stop_str_in_output ?? true,
    logprob: streamed || (given.details ?? false) || bestOf > 1,
    topLogprobs,
    ...(given.decoder_input_details === true && { promptLogprobs: 0 }),
    ...(given.grammar !== undefined && { constraint: constraintOf(given.grammar) }),
  };
  return Array.from({ length: bestOf }, () => request);
}

/** @throws InvalidInput */
function constraintOf({ type, value }: Static<typeof Grammar>): AnswerConstraint {
  if (type === 'regex') {
    if (typeof value !== 'string') throw new InvalidInput('grammar.value must be a string', 'grammar');
    return { spec: { kind: 'regex', pattern: value }, behind: null };
  }
  let schema = typeof value === 'string' ? boundedJson(value, 'grammar.value', 'grammar') : value;
  if (type === 'json_schema') schema = (schema as { schema?: unknown } | null)?.schema ?? schema;
  return { spec: { kind: 'json-schema', schema }, behind: null };
}
