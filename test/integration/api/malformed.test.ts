/**
 * Malformed bodies, a thousand a dialect: each is answered, or refused with a 4xx in the words of its dialect; none is a 500, none
 * tells a path of this machine or a line of code.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ServingError } from '../../../proto/errors.js';
import { torchServeDialects } from '../../../server/http/dialects/torchserve/torchserve-dialects.js';
import type { InferenceService, JobRequest } from '../../../server/requests/service.js';
import { seededRandom } from '../../fixtures/seeded-random.js';
import { type Json, jsonText, mutatedJson, mutatedText } from '../../fuzz/mutations.js';
import { managementOf } from '../../support/http-fake-management.js';
import { FakeService, startServer, type TestServer } from '../../support/http-fixtures.js';
import { torchServeModelsOf } from '../../support/torchserve-parts.js';

const SEED = 20_261_130;
const CASES = 1000;
/** At once: the client's own time is most of it. */
const SIDE_BY_SIDE = 8;
/** An answer that is not there by then never comes. */
const HANG_MS = 20_000;

/** Answers every kind of request, so that what lies behind the checks is reached. */
class WholeService extends FakeService {
  override async submit<R extends JobRequest>(asked: R, signal: AbortSignal) {
    if (asked.kind === 'generate') return super.submit(asked, signal);
    if (asked.kind === 'invoke') throw new ServingError('BAD_REQUEST', 'The model is no handler');
    const event =
      asked.kind === 'embed'
        ? { kind: 'vector', vector: [0.5, 0.25] }
        : { kind: 'value', outputs: [{ name: 'y', type: 'FP32', shape: [1], bytes: new Uint8Array(4) }] };
    const events = (async function* () {
      yield event;
      yield {
        kind: 'finish',
        reason: 'end-id',
        text: '',
        generatedText: '',
        promptTokens: 1,
        newTokens: 0,
        seed: 0,
      };
    })();
    return { promptTokens: 1, events } as never;
  }

  override tokens(): ReturnType<NonNullable<InferenceService['tokens']>> {
    return {
      contextLength: 512,
      encode: async () => [1, 2, 3],
      decode: () => 'text',
      pieces: (ids) => ids.map(() => 'a'),
      text: () => 'a',
    };
  }
}

type Shape = (body: Record<string, unknown>) => boolean;
const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
const openAi: Shape = ({ error }) => {
  const { code, message, param, type } = (error ?? {}) as Record<string, unknown>;
  return isText(message) && isText(type) && code !== undefined && param !== undefined;
};
const anthropic: Shape = ({ error, type }) => {
  const { message, type: kind } = (error ?? {}) as Record<string, unknown>;
  return type === 'error' && isText(message) && isText(kind);
};
/** DJLServing's, and LMI's for a body that is JSON and no request. */
const djl: Shape = ({ code, error, message, type }) =>
  typeof code === 'number' && ((isText(message) && isText(type)) || isText(error));

const CHAT: Json = {
  model: 'mlp',
  messages: [
    { role: 'system', content: 'Be brief' },
    { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
    {
      role: 'assistant',
      content: null,
      tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } }],
    },
    { role: 'tool', tool_call_id: 'a', content: '1' },
  ],
  tools: [
    {
      type: 'function',
      function: { name: 'f', parameters: { type: 'object', properties: { x: { type: 'string' } } } },
    },
  ],
  tool_choice: 'auto',
  response_format: { type: 'text' },
  max_completion_tokens: 4,
  n: 1,
  stream: false,
  logprobs: true,
  top_logprobs: 2,
  chat_template_kwargs: { a: 1 },
};
const COMPLETION: Json = {
  model: 'mlp',
  prompt: ['once', 'twice'],
  max_tokens: 4,
  temperature: 0.5,
  top_p: 0.9,
  n: 2,
  best_of: 2,
  stop: ['.', '\n'],
  logit_bias: { '5': 1, '7': -100 },
  echo: true,
  logprobs: 1,
  seed: 5,
  stream: true,
  stream_options: { include_usage: true },
  guided_choice: ['a', 'b'],
};
const LMI: Json = {
  inputs: 'once',
  parameters: {
    max_new_tokens: 4,
    temperature: 0.5,
    top_k: 5,
    stop_sequences: ['.'],
    details: true,
    do_sample: true,
    seed: 1,
    decoder_input_details: true,
  },
  stream: false,
};

const SCORE: Json = { model: 'mlp', text_1: 'a', text_2: ['b', 'c'], input: ['a'] };
const RERANK: Json = { model: 'mlp', query: 'a', documents: ['b', 'c'], top_n: 1 };
const INFER: Json = {
  id: '1',
  parameters: { binary_data_output: false },
  inputs: [{ name: 'x', shape: [1, 2], datatype: 'FP32', data: [1, 2], parameters: { binary_data_size: 8 } }],
  outputs: [{ name: 'y', parameters: { binary_data: false } }],
};
const GENERATE: Json = { text_input: 'once', max_tokens: 4, stream: false, temperature: 0.5, id: 'a' };

interface Row {
  dialect: string;
  shape: Shape;
  /** Path and query, and bodies that are right. */
  seeds: readonly (readonly [path: string, body: Json])[];
}

const TORCHSERVE = 'torchserve';
const ROWS: readonly Row[] = [
  {
    dialect: 'openai',
    shape: openAi,
    seeds: [
      ['/v1/completions', COMPLETION],
      ['/v1/chat/completions', CHAT],
      [
        '/v1/responses',
        {
          model: 'mlp',
          input: [{ role: 'user', content: 'Hi' }],
          instructions: 'x',
          max_output_tokens: 4,
          tools: [],
          stream: false,
          text: { format: { type: 'text' } },
        },
      ],
      [
        '/v1/embeddings',
        { model: 'mlp', input: ['a', 'b'], dimensions: 2, encoding_format: 'base64', user: 'u' },
      ],
    ],
  },
  {
    dialect: 'vllm',
    shape: openAi,
    seeds: [
      ['/tokenize', { model: 'mlp', prompt: 'a b', add_special_tokens: true, return_token_strs: true }],
      ['/tokenize', CHAT],
      ['/tokenize', { inputs: 'a b', parameters: { truncate: 2 } }],
      ['/detokenize', { model: 'mlp', tokens: [1, 2] }],
      ...['/score', '/v1/score', '/classify'].map((path) => [path, SCORE] as const),
      ...['/rerank', '/v1/rerank', '/v2/rerank'].map((path) => [path, RERANK] as const),
      ['/pooling', { model: 'mlp', input: ['a', 'b'], encoding_format: 'float' }],
    ],
  },
  {
    dialect: 'tgi',
    shape: ({ error, error_type: type }) => isText(error) && isText(type),
    seeds: [
      ['/chat_tokenize', { messages: [{ role: 'user', content: 'a' }], tools: [] }],
      [
        '/generate',
        { inputs: 'once', parameters: { max_new_tokens: 4, details: true, top_n_tokens: 2, stop: ['.'] } },
      ],
      ['/generate_stream', { inputs: 'once', parameters: { max_new_tokens: 4, do_sample: true, seed: 1 } }],
      ['/', { inputs: 'once', parameters: { max_new_tokens: 4 }, stream: false }],
    ],
  },
  {
    dialect: 'oip',
    shape: ({ error }) => isText(error),
    seeds: [
      ...['', '/versions/1'].flatMap((version) => [
        [`/v2/models/tensors${version}/infer`, INFER] as const,
        [`/v2/models/mlp${version}/generate`, GENERATE] as const,
        [`/v2/models/mlp${version}/generate_stream`, GENERATE] as const,
      ]),
      // What an explanation does is of test/integration/engines.
      ...['', '/versions/1'].map((version) => [`/v2/models/absent${version}/explain`, INFER] as const),
      ['/v2/repository/index', { ready: true }],
      ['/v2/repository/models/absent/load', { parameters: { a: '1' } }],
      ['/v2/repository/models/absent/unload', { parameters: { unload_dependents: false } }],
    ],
  },
  {
    dialect: 'anthropic',
    shape: anthropic,
    seeds: [
      [
        '/v1/messages',
        {
          model: 'mlp',
          max_tokens: 4,
          system: [{ type: 'text', text: 'x' }],
          messages: [
            { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
            { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'f', input: { x: 1 } }] },
            { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: 'x' }] },
          ],
          tools: [{ name: 'f', description: 'd', input_schema: { type: 'object' } }],
          tool_choice: { type: 'auto' },
          stop_sequences: ['x'],
          temperature: 0.5,
          thinking: { type: 'disabled' },
          output_config: { effort: 'low', format: { type: 'json_schema', schema: { type: 'object' } } },
        },
      ],
      ['/v1/messages/count_tokens', { model: 'mlp', messages: [{ role: 'user', content: 'a' }] }],
    ],
  },
  {
    dialect: 'djl',
    shape: djl,
    seeds: [
      ['/predictions/mlp', LMI],
      ['/invocations', { inputs: ['a', 'b'], parameters: { max_new_tokens: 2 }, stream: true }],
      ['/predictions/mlp', CHAT],
      ['/predictions/mlp/1.0', COMPLETION],
      ['/predictions/tensors', { inputs: [{ name: 'x', shape: [1, 2], datatype: 'FP32', data: [1, 2] }] }],
      ['/models/mlp/invoke', LMI],
      ['/wfpredict/flow', LMI],
      ['/invocations', { requestType: 'NEW_SESSION' }],
      ['/models/mlp/invoke', { requestType: 'CLOSE' }],
    ],
  },
  {
    dialect: 'management',
    shape: djl,
    seeds: [
      [
        '/models',
        { url: 'file:///models/x', model_name: 'x', min_worker: 1, synchronous: true, batch_size: 2 },
      ],
      ['/models?url=file:///models/y&model_name=y&max_worker=2', {}],
    ],
  },
  {
    // Routes that read no body, and refuse whole APIs.
    dialect: 'others',
    shape: djl,
    seeds: [
      ...[
        '/ping',
        '/workflows',
        '/models/mlp/adapters',
        '/models/mlp/adapters/x',
        '/adapters',
        '/adapters/x',
      ],
      // What a model's explanation does is of test/integration/engines; here it is never found.
      ...['/explanations/absent', '/explanations/absent/1.0'],
      ...['/server/logging', '/metrics', '/server/metrics'],
    ].map((path) => [path, LMI] as const),
  },
  {
    // A server of its own.
    dialect: TORCHSERVE,
    shape: djl,
    seeds: [
      ['/predictions/mlp', LMI],
      ['/predictions/mlp/1.0', CHAT],
      ['/predictions/mlp/1.0/v1/completions', COMPLETION],
      ['/predictions/mlp/1.0/v1/chat/completions', CHAT],
      ['/predictions/tensors', INFER],
      ...['/invocations', '/models/mlp/invoke', '/mlp/predict', '/mlp/1.0/predict', '/ping'].map(
        (path) => [path, LMI] as const,
      ),
      [
        '/v1/models/mlp:predict',
        { instances: ['a', { data: 'b' }, { inputs: 'c', parameters: { max_new_tokens: 2 } }] },
      ],
      ['/v1/models/absent:explain', { instances: ['a'] }],
      ['/api-description', {}],
      ['/models', { url: 'x.mar', model_name: 'x', initial_workers: 1, synchronous: true, batch_size: 2 }],
      ['/models?url=y.mar&model_name=y&initial_workers=2', {}],
    ],
  },
];

const TYPES = [
  'application/json',
  'application/json',
  'application/json',
  'application/json',
  'application/json;charset=latin9',
  '',
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'multipart/form-data; boundary=x',
  'tensor/npy',
  'tensor/npz',
  'application/octet-stream',
  'image/png',
  ';;;',
];

let test: TestServer;
let torchServe: TestServer;
beforeAll(async () => {
  const service = new WholeService();
  service.statuses = [
    ...service.statuses,
    {
      ...service.statuses[0]!,
      name: 'tensors',
      task: 'tensors',
      signature: { inputs: [{ name: 'x', type: 'FP32', shape: [-1, 2] }], outputs: [] },
    },
  ];
  test = await startServer({ registrationFolders: ['*'] }, 'mlp', { service });
  const versions = new WholeService();
  versions.statuses = service.statuses.map((one) => ({ ...one, version: '1.0' }));
  const management = managementOf(versions);
  const dialects = torchServeDialects(torchServeModelsOf(management));
  torchServe = await startServer({}, 'mlp', { service: versions, management }, dialects);
});
afterAll(() => Promise.all([test, torchServe].map(({ server }) => server.close())));

/** What no answer may hold. */
const LEAK =
  /\n\s+at |node_modules|\.(?:ts|js):\d+|file:\/\/\/(?!models)|\/dist\/|AssertionError|TypeError|RangeError/;

describe.each(ROWS)('$dialect', ({ dialect, seeds, shape }) => {
  it(`answers ${CASES} malformed bodies, or refuses them in its own words`, async () => {
    const wrong: string[] = [];
    const statuses = new Map<number, number>();
    const one = async (index: number): Promise<void> => {
      const random = seededRandom(SEED + index);
      const [path, seed] = random.pick(seeds);
      let body: string = jsonText(mutatedJson(seed, random), random);
      if (random.next() < 0.1) body = mutatedText(body, random);
      const type = random.pick(TYPES);
      const say = (what: string, answer = '') =>
        wrong.push(`${dialect} ${index} ${path} ${type}: ${what}: ${answer.slice(0, 300)}`);
      const { url } = dialect === TORCHSERVE ? torchServe : test;
      const answered = await fetch(url + path, {
        method: 'POST',
        body: new TextEncoder().encode(body),
        headers: type === '' ? {} : { 'content-type': type },
        signal: AbortSignal.timeout(HANG_MS),
      })
        .then(async (response) => ({ status: response.status, text: await response.text() }))
        .catch(() => null);
      if (answered === null) {
        say('no answer', body);
        return;
      }
      const { status, text } = answered;
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (status >= 500) say('a 5xx', `${status} ${text}`);
      if (status < 400) return;
      if (LEAK.test(text)) say('a leak', `${status} ${text}`);
      let told: unknown;
      try {
        told = JSON.parse(text);
      } catch {
        say('no JSON', `${status} ${text}`);
        return;
      }
      if (!shape(told as Record<string, unknown>)) say('another shape', `${status} ${text}`);
    };
    for (let index = 0; index < CASES; index += SIDE_BY_SIDE)
      await Promise.all(Array.from({ length: SIDE_BY_SIDE }, (_, more) => one(index + more)));
    expect(wrong.slice(0, 5)).toEqual([]);
    // Both sides of the checks were reached.
    expect([...statuses.keys()].some((status) => status < 300)).toBe(true);
    expect([...statuses.keys()].some((status) => status >= 400)).toBe(true);
  });
});

it('leaves no route out that takes a body', () => {
  const covered = ROWS.flatMap(({ seeds }) => seeds.map(([path]) => path.split('?')[0]!));
  const fits = (url: string) => {
    const pattern = new RegExp(`^${url.replace(/:\w+/g, '[^/]+').replace('*', '.*')}$`);
    return covered.some((path) => pattern.test(path));
  };
  const left = [...test.server.routes, ...torchServe.server.routes]
    .filter(({ method, url }) => method === 'POST' && !fits(url))
    .map(({ url }) => url);
  expect(left).toEqual([]);
});

const DEEP = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
const text = (name: string, data: string) => ({ name, shape: [1], datatype: 'BYTES', data: [data] });

describe('JSON within a text of a body', () => {
  it.each<[string, object]>([
    [
      '/v1/chat/completions',
      {
        model: 'mlp',
        messages: [
          { role: 'user', content: 'Hi' },
          {
            role: 'assistant',
            tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: DEEP } }],
          },
        ],
      },
    ],
    ['/v1/completions', { model: 'mlp', prompt: 'a', guided_json: DEEP }],
    ['/generate', { inputs: 'a', parameters: { grammar: { type: 'json', value: DEEP } } }],
    [
      '/v2/models/mlp/infer',
      { inputs: [text('text_input', 'a'), text('sampling_parameters', `{"guided_json": ${DEEP}}`)] },
    ],
  ])('is bounded as the body is: %s', async (path, body) => {
    const response = await fetch(test.url + path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    });
    expect([response.status, await response.text()]).toEqual([
      expect.toSatisfy((status: number) => status === 400 || status === 422),
      expect.stringMatching(/nested 2000\d deep, the limit is 128/),
    ]);
  });
});
