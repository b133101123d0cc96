/** One greedy text through every dialect, whole and streamed, by the real engine on one rank and on two. */
import { type Client, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { protoFile } from '../../proto/proto-file.js';
import { PROTO_OPTIONS } from '../../server/grpc/oip-messages.js';
import { ServerProcess } from '../support/server-process.js';

const PROMPT = 'Once upon a time';
const TOKENS = 24;
const servers: ServerProcess[] = [];
const texts = new Map<string, string>();

afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()));
});

type Json = Record<string, unknown>;
/** Bodies of server-sent events and of JSON lines. */
const pieces = (text: string): Json[] =>
  text
    .split('\n')
    .map((line) => line.replace(/^data: ?/, '').trim())
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Json);
const at = (value: unknown, ...keys: (string | number)[]): string =>
  String(keys.reduce<unknown>((inner, key) => (inner as Json)[key], value));

const LMI = { inputs: PROMPT, parameters: { max_new_tokens: TOKENS, do_sample: false } };
const OPEN_AI = { model: 'embedded', prompt: PROMPT, max_tokens: TOKENS, temperature: 0 };
const OIP = { text_input: PROMPT, parameters: { max_tokens: TOKENS, temperature: 0 } };
const INFER = {
  inputs: [{ name: 'text_input', shape: [1], datatype: 'BYTES', data: [PROMPT] }],
  parameters: { max_tokens: TOKENS, temperature: 0 },
};

/** Its template makes a chat of one message the same prompt. */
const TEMPLATE = '{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}';
const MESSAGES = [{ role: 'user', content: PROMPT }];
const CHAT = { model: 'embedded', messages: MESSAGES, max_tokens: TOKENS, temperature: 0 };
const RESPONSE = { model: 'embedded', input: PROMPT, max_output_tokens: TOKENS, temperature: 0 };
/** Some events tell other things. */
const deltaOf = (piece: Json, ...keys: (string | number)[]): string =>
  String(keys.reduce<unknown>((inner, key) => (inner as Json | undefined)?.[key], piece) ?? '');

/** Path, body, and the text of an answer. */
const WHOLE: readonly [string, object, (answer: unknown) => string][] = [
  ['/predictions/embedded', LMI, (answer) => at(answer, 'generated_text')],
  ['/invocations', LMI, (answer) => at(answer, 'generated_text')],
  ['/models/embedded/invoke', LMI, (answer) => at(answer, 'generated_text')],
  ['/v1/completions', OPEN_AI, (answer) => at(answer, 'choices', 0, 'text')],
  ['/v1/chat/completions', CHAT, (answer) => at(answer, 'choices', 0, 'message', 'content')],
  ['/invocations', CHAT, (answer) => at(answer, 'choices', 0, 'message', 'content')],
  ['/v1/responses', RESPONSE, (answer) => at(answer, 'output', 0, 'content', 0, 'text')],
  ['/v1/messages', CHAT, (answer) => at(answer, 'content', 0, 'text')],
  ['/generate', LMI, (answer) => at(answer, 'generated_text')],
  ['/', LMI, (answer) => at(answer, 0, 'generated_text')],
  ['/v2/models/embedded/generate', OIP, (answer) => at(answer, 'text_output')],
  ['/v2/models/embedded/infer', INFER, (answer) => at(answer, 'outputs', 0, 'data', 0)],
];
const STREAMED: readonly [string, object, (piece: Json) => string][] = [
  ['/predictions/embedded', { ...LMI, stream: true }, (piece) => at(piece, 'token', 'text')],
  ['/v1/completions', { ...OPEN_AI, stream: true }, (piece) => at(piece, 'choices', 0, 'text')],
  [
    '/v1/chat/completions',
    { ...CHAT, stream: true },
    (piece) => deltaOf(piece, 'choices', 0, 'delta', 'content'),
  ],
  ['/invocations', { ...CHAT, stream: true }, (piece) => deltaOf(piece, 'choices', 0, 'delta', 'content')],
  [
    '/v1/responses',
    { ...RESPONSE, stream: true },
    (piece) => (piece.type === 'response.output_text.delta' ? at(piece, 'delta') : ''),
  ],
  ['/v1/messages', { ...CHAT, stream: true }, (piece) => deltaOf(piece, 'delta', 'text')],
  ['/generate_stream', LMI, (piece) => at(piece, 'token', 'text')],
  ['/', { ...LMI, stream: true }, (piece) => at(piece, 'token', 'text')],
  ['/v2/models/embedded/generate_stream', OIP, (piece) => at(piece, 'text_output')],
];

describe.each(['1', '2'])('on %s ranks', (degree) => {
  let server: ServerProcess;
  beforeAll(async () => {
    server = await ServerProcess.start({
      TENSOR_PARALLEL_DEGREE: degree,
      SERVING_GRPC_ADDRESS: 'http://127.0.0.1:0',
      OPTION_CHAT_TEMPLATE: TEMPLATE,
    });
    servers.push(server);
    const { generated_text: text } = (await (await server.post('/predictions/embedded', LMI)).json()) as Json;
    texts.set(degree, String(text));
  });

  it.each(WHOLE)('%s gives the text', async (path, body, textOf) => {
    const response = await server.post(path, body);
    const answer = await response.text();
    expect(response.status, answer).toBe(200);
    expect(textOf(JSON.parse(answer))).toBe(texts.get(degree));
  });

  it.each(STREAMED)('%s streams the text', async (path, body, textOf) => {
    const told = pieces(await (await server.post(path, body)).text());
    expect(told.length).toBeGreaterThan(TOKENS / 2);
    expect(told.map(textOf).join('')).toBe(texts.get(degree));
  });

  it('what is explained is the text, whatever the model does by default', async () => {
    const asked = { inputs: PROMPT, parameters: { max_new_tokens: 16 } };
    const explained = await server.post('/explanations/embedded?method=occlusion', asked);
    const { answer } = (await explained.json()) as { answer: string };
    expect([answer.length > 16, texts.get(degree)!.slice(0, answer.length)]).toEqual([true, answer]);
  });

  it('gRPC gives and streams the text', async () => {
    const { address } = await server.line(({ msg }) => msg.startsWith('the Open Inference Protocol'));
    const { inference } = loadPackageDefinition(
      loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS),
    ) as unknown as {
      inference: { GRPCInferenceService: new (...args: unknown[]) => Client & Record<string, unknown> };
    };
    const stub = new inference.GRPCInferenceService(address, credentials.createInsecure());
    const prompt = Buffer.alloc(4 + PROMPT.length);
    prompt.writeUInt32LE(PROMPT.length);
    prompt.write(PROMPT, 4);
    const message = {
      model_name: 'embedded',
      inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [1] }],
      parameters: { max_tokens: { int64_param: TOKENS }, temperature: { double_param: 0 } },
      raw_input_contents: [prompt],
    };
    const answer = await new Promise<{ raw_output_contents: Buffer[] }>((resolve, reject) => {
      (stub.ModelInfer as (...args: unknown[]) => void)(
        message,
        (error: ServiceError | null, value: { raw_output_contents: Buffer[] }) =>
          error ? reject(error) : resolve(value),
      );
    });
    expect(answer.raw_output_contents[0]!.toString('utf8', 4)).toBe(texts.get(degree));
    const stream = (stub.ModelStreamInfer as () => unknown)() as AsyncIterable<{
      infer_response: { raw_output_contents: Buffer[] };
    }> & { write(asked: object): void; end(): void };
    stream.write({
      ...message,
      inputs: [...message.inputs, { name: 'stream', datatype: 'BOOL', shape: [1] }],
      raw_input_contents: [prompt, Buffer.of(1)],
    });
    stream.end();
    let told = '';
    let responses = 0;
    for await (const { infer_response: response } of stream) {
      told += response.raw_output_contents[0]?.toString('utf8', 4) ?? '';
      responses += 1;
    }
    stub.close();
    expect([told, responses > TOKENS / 2]).toEqual([texts.get(degree), true]);
  });
});

it('is the same text on one rank and on two', () => {
  expect(texts.get('2')).toBe(texts.get('1'));
  expect(texts.get('1')!.length).toBeGreaterThan(TOKENS);
});
