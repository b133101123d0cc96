/** What the management API, priorities, deadlines and probes do to real workers. */
import { afterEach, describe, expect, it } from 'vitest';
import { ServerProcess } from '../support/server-process.js';

const LIMIT_MS = 120_000;
const servers: ServerProcess[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

function launch(environment: Record<string, string>): ServerProcess {
  const server = new ServerProcess({ TENSOR_PARALLEL_DEGREE: '1', ...environment });
  servers.push(server);
  return server;
}

async function start(environment: Record<string, string>): Promise<ServerProcess> {
  const server = launch(environment);
  await server.ready();
  return server;
}

const prompt = (tokens: number) => ({
  inputs: 'Once upon a time',
  parameters: { max_new_tokens: tokens, do_sample: false, ignore_eos_token: true },
});

async function predict(server: ServerProcess, tokens: number, headers: Record<string, string> = {}) {
  const response = await fetch(`${server.url}/predictions/embedded`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(prompt(tokens)),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function get(url: string) {
  const response = await fetch(url);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function metrics(server: ServerProcess): Promise<string> {
  return (await fetch(`${server.url}/metrics`)).text();
}

interface Described {
  models: {
    requestInQueue: number;
    status: string;
    loading?: { stage: string };
    failure?: { code: string; message: string };
  }[];
}

async function describeModel(server: ServerProcess, at = server.url) {
  const { body } = await get(`${at}/models/embedded`);
  return (body as unknown as Described[])[0]!.models[0]!;
}

/** Resolves when so many jobs wait; there is no event for it outside the server. */
async function waiting(server: ServerProcess, count: number): Promise<void> {
  while ((await describeModel(server)).requestInQueue !== count);
}

describe('one slot', () => {
  it(
    'runs the lower priority number first, and never what is past its deadline',
    async () => {
      const server = await start({ OPTION_MAX_ROLLING_BATCH_SIZE: '1' });
      const ended: string[] = [];
      const note = async (name: string, answer: ReturnType<typeof predict>) => {
        const { status, body } = await answer;
        ended.push(name);
        return { status, body };
      };
      const first = note('first', predict(server, 450));
      // It has its slot when the metrics count a sequence that runs.
      while (!/^shardserve_sequences_running\{[^}]*\} 1$/m.test(await metrics(server)));
      const late = note('late', predict(server, 2, { 'x-priority': '5' }));
      await waiting(server, 1);
      const early = note('early', predict(server, 2, { 'x-priority': '1' }));
      await waiting(server, 2);
      const expired = await predict(server, 2, { 'x-request-timeout-ms': '20' });
      expect(expired).toMatchObject({ status: 408, body: { code: 408, type: 'TranslateException' } });
      expect((await Promise.all([first, late, early])).map(({ status }) => status)).toEqual([200, 200, 200]);
      expect(ended).toEqual(['first', 'early', 'late']);
    },
    LIMIT_MS,
  );
});

describe('two addresses', () => {
  it(
    'keep their paths apart; a server that loads says so',
    async () => {
      const server = launch({
        // Another name of the same host: two addresses, each with a port of its own.
        SERVING_MANAGEMENT_ADDRESS: 'http://localhost:0',
        SERVING_WAIT_MODEL_LOADING: 'false',
        SERVING_ALLOW_MULTI_STATUS: 'true',
      });
      const line = await server.line(({ msg }) => msg.startsWith('the management API'));
      const management = String(line.managementUrl);
      // The inference address is the one that listened last.
      const listening = server.lines.filter(({ msg }) => msg.startsWith('Server listening at http://127'));
      const inference = listening.at(-1)!.msg.replace('Server listening at ', '');
      const ready = await get(`${inference}/health/ready`);
      expect([ready.status, ready.body.reason]).toEqual([503, 'embedded is loading']);
      expect(await get(`${inference}/ping`)).toEqual({
        status: 207,
        body: { embedded: { status: 'PENDING' } },
      });
      expect(await describeModel(server, management)).toMatchObject({
        status: 'PENDING',
        loading: { stage: expect.any(String) },
      });
      await server.ready();
      for (const url of [inference, management]) {
        expect((await get(`${url}/health/ready`)).status).toBe(200);
        expect((await get(`${url}/models/embedded/ready`)).status).toBe(200);
      }
      expect((await predict(server, 2)).status).toBe(200);
      expect((await get(`${server.url}/models`)).status).toBe(404);
      expect((await get(`${management}/ping`)).status).toBe(404);
      expect((await get(`${management}/models`)).status).toBe(200);
    },
    LIMIT_MS,
  );
});

describe('a model whose workers died too often', () => {
  it(
    'is failed, and /ping and describe say why',
    async () => {
      const server = await start({ SERVING_RETRY_THRESHOLD: '0' });
      process.kill(server.workerPids[0]!, 'SIGKILL');
      while ((await describeModel(server)).status !== 'FAILED');
      const { failure } = await describeModel(server);
      expect(failure?.message).toMatch(/retry_threshold/);
      expect(await get(`${server.url}/ping`)).toEqual({
        status: 500,
        body: { embedded: { status: 'FAILED', reason: failure?.message } },
      });
      expect((await get(`${server.url}/models/embedded/ready`)).status).toBe(503);
      expect((await predict(server, 2)).status).toBe(503);
    },
    LIMIT_MS,
  );
});
