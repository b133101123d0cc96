/** Embedding models behind the running server, split over two worker processes: OpenAI's own client, DJLServing's paths, a full queue. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import OpenAI, { type APIError } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenFolder } from '../support/golden.js';
import { readEncoderGolden } from '../support/golden-encoders.js';
import { relativeDeviation } from '../support/golden-families.js';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const LIMIT_MS = 120_000;
/** Cut at 20 tokens; two of its texts are longer. */
const dense = readEncoderGolden('encoder-bert-dense');
const roberta = readEncoderGolden('encoder-roberta');
const short = dense.texts.filter(({ ids }) => ids.length < 20);
const long = dense.texts.filter(({ ids }) => ids.length === 20);

let store: string;
const started: ServerProcess[] = [];
beforeAll(() => {
  store = mkdtempSync(path.join(tmpdir(), 'embeddings-'));
});
afterAll(async () => {
  await Promise.all(started.map((server) => server.stop()));
  rmSync(store, { recursive: true });
});

/** @param models name in the store → folder */
async function start(models: Record<string, string>, environment: Record<string, string> = {}) {
  const folder = mkdtempSync(path.join(store, 'models-'));
  for (const [name, target] of Object.entries(models)) symlinkSync(target, path.join(folder, name));
  const server = await ServerProcess.start({
    ...{ SERVING_MODEL_STORE: folder, SERVING_SHARD_STORE: path.join(store, 'shards') },
    ...{ TENSOR_PARALLEL_DEGREE: '2', OPTION_THREADS_PER_RANK: '1' },
    ...environment,
  });
  started.push(server);
  return server;
}

function expectNear(seen: readonly number[], expected: readonly number[], tolerance: number): void {
  const deviation = relativeDeviation(Float32Array.from(seen), Float32Array.from(expected));
  expect(deviation).toBeLessThanOrEqual(tolerance);
}

const refusal = (request: Promise<unknown>): Promise<APIError> =>
  request.then(
    () => expect.fail('it was answered'),
    (error: APIError) => error,
  );

describe('two encoders and a decoder', () => {
  let server: ServerProcess;
  let client: OpenAI;
  beforeAll(async () => {
    server = await start({
      bert: goldenFolder('encoder-bert-dense'),
      roberta: goldenFolder('encoder-roberta'),
      embedded: path.join(repositoryRoot, 'models', 'embedded'),
    });
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  }, LIMIT_MS);

  it.each([undefined, 'float', 'base64'] as const)(
    'OpenAI’s client gets the golden vectors, format %s',
    async (format) => {
      const { data, usage } = await client.embeddings.create({
        model: 'bert',
        input: short.map(({ text }) => text),
        ...(format && { encoding_format: format }),
      });
      expect(data.map(({ index }) => index)).toEqual(short.map((_, index) => index));
      const tokens = short.reduce((sum, { ids }) => sum + ids.length, 0);
      expect(usage).toEqual({ prompt_tokens: tokens, total_tokens: tokens });
      data.forEach(({ embedding }, index) => {
        // The client decodes base64 where it chose it itself.
        const values =
          typeof embedding === 'string'
            ? Array.from(new Float32Array(new Uint8Array(Buffer.from(embedding, 'base64')).buffer))
            : embedding;
        expectNear(values, short[index]!.vector, dense.tolerance);
      });
    },
  );

  it('token ids are taken as they are, one list or several', async () => {
    const [first, second] = roberta.texts as [(typeof roberta.texts)[0], (typeof roberta.texts)[0]];
    const one = await client.embeddings.create({ model: 'roberta', input: first.ids });
    expectNear(one.data[0]!.embedding, first.vector, roberta.tolerance);
    const two = await client.embeddings.create({ model: 'roberta', input: [first.ids, second.ids] });
    expectNear(two.data[1]!.embedding, second.vector, roberta.tolerance);
  });

  it('a text that is too long is refused by OpenAI’s path, and cut when asked', async () => {
    const input = long.map(({ text }) => text);
    expect(await refusal(client.embeddings.create({ model: 'bert', input }))).toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
      message: expect.stringContaining('maximum text length is 20 tokens'),
    });
    const body = { model: 'bert', input, truncate_prompt_tokens: -1 };
    const { data } = await client.embeddings.create(body);
    data.forEach(({ embedding }, index) => {
      expectNear(embedding, long[index]!.vector, dense.tolerance);
    });
  });

  it.each(['/predictions/bert', '/invocations?model_name=bert'])(
    '%s answers a list of vectors, long texts cut',
    async (at) => {
      const many = await server.post(at, { inputs: dense.texts.map(({ text }) => text) });
      expect(many.status).toBe(200);
      const vectors = (await many.json()) as number[][];
      vectors.forEach((vector, index) => {
        expectNear(vector, dense.texts[index]!.vector, dense.tolerance);
      });
      expect(vectors).toHaveLength(dense.texts.length);
      const one = (await (await server.post(at, { inputs: short[0]!.text })).json()) as number[][];
      expect(one).toEqual([vectors[dense.texts.indexOf(short[0]!)]]);
      const refused = await server.post(at, { inputs: long[0]!.text, truncate: false });
      expect(refused.status).toBe(400);
      const streamed = await server.post(at, { inputs: 'a', stream: true });
      expect(streamed.status).toBe(400);
    },
  );

  it('a model is asked for what it is not made for: one clear 400', async () => {
    const message = expect.stringContaining('is an embedding model');
    const messages = [{ role: 'user' as const, content: 'a' }];
    expect(await refusal(client.completions.create({ model: 'bert', prompt: 'a' }))).toMatchObject({
      status: 400,
      message,
    });
    expect(await refusal(client.chat.completions.create({ model: 'bert', messages }))).toMatchObject({
      status: 400,
      message,
    });
    expect(await refusal(client.embeddings.create({ model: 'embedded', input: 'a' }))).toMatchObject({
      status: 400,
      message: expect.stringContaining('(a prompt is "inputs", "prompt" or "messages", not "input")'),
    });
    expect(
      await refusal(client.embeddings.create({ model: 'bert', input: 'a', dimensions: 8 })),
    ).toMatchObject({
      status: 400,
      message: expect.stringContaining('vectors of this model have 24'),
    });
    expect(await refusal(client.embeddings.create({ model: 'none', input: 'a' }))).toMatchObject({
      status: 404,
    });
    expect(await refusal(client.embeddings.create({ model: 'bert', input: [] }))).toMatchObject({
      status: 400,
      param: 'input',
    });
  });

  it('a list that is longer than queue and slots together is answered whole', async () => {
    const input = Array.from({ length: 300 }, (_, index) => short[index % short.length]!.text);
    const { data } = await client.embeddings.create({ model: 'bert', input });
    data.forEach(({ embedding }, index) => {
      expectNear(embedding, short[index % short.length]!.vector, dense.tolerance);
    });
    expect(data).toHaveLength(300);
  });
});

describe('one slot and a queue of one', () => {
  it(
    'refuses the second text, drops one whose client left, and goes on; unregistered it is not found',
    async () => {
      const server = await start(
        { bert: goldenFolder('encoder-bert-dense') },
        { SERVING_JOB_QUEUE_SIZE: '1', OPTION_MAX_ROLLING_BATCH_SIZE: '1' },
      );
      const embed = (input: string | string[], signal?: AbortSignal) =>
        server.post('/v1/embeddings', { model: 'bert', input }, signal);
      const workers = server.workerPids;
      const tell = (signal: NodeJS.Signals): void => {
        for (const pid of workers) process.kill(pid, signal);
      };
      const halt = (): void => tell('SIGSTOP');
      const goOn = (): void => tell('SIGCONT');
      const text = short[0]!.text;
      try {
        halt();
        let from = server.lines.length;
        const first = embed(text);
        await server.line(({ msg }) => msg === 'slot taken', from);
        const second = await embed(text);
        expect(second.status).toBe(429);
        expect(((await second.json()) as { error: { code: string } }).error.code).toBe('queue_full');
        goOn();
        expect((await first).status).toBe(200);
        await server.line(({ msg }) => msg === 'slot freed', from);

        halt();
        from = server.lines.length;
        const leaving = new AbortController();
        const left = embed([text, text, text], leaving.signal);
        left.catch(() => {});
        await server.line(({ msg }) => msg === 'slot taken', from);
        leaving.abort();
        await server.line(({ msg, why }) => msg === 'slot freed' && why === 'cancelled', from);
        goOn();
      } finally {
        goOn();
      }
      const list = await embed(new Array<string>(12).fill(text));
      expect(list.status).toBe(200);
      expect(((await list.json()) as { data: unknown[] }).data).toHaveLength(12);
      expect((await fetch(`${server.url}/models/bert`, { method: 'DELETE' })).status).toBe(200);
      expect((await embed(text)).status).toBe(404);
    },
    LIMIT_MS,
  );
});
