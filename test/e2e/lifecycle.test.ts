/** How a server starts and ends: drained by SIGTERM, killed by SIGKILL, refused by its configuration. */
import { createConnection } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { allGone, isRunning, jsonLines, ServerProcess } from '../support/server-process.js';

const servers: ServerProcess[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.kill('SIGKILL');
    await server.exited;
  }
});

async function start(environment: Record<string, string> = {}): Promise<ServerProcess> {
  const server = await ServerProcess.start(environment);
  servers.push(server);
  return server;
}

const LONG = {
  inputs: 'Once upon a time',
  parameters: { max_new_tokens: 400, do_sample: false, ignore_eos: true },
  stream: true,
};

describe('a server that is killed', () => {
  it('leaves no shard worker, though a request runs', async () => {
    const server = await start({ TENSOR_PARALLEL_DEGREE: '2' });
    const { workerPids } = server;
    expect(workerPids.map(isRunning)).toEqual([true, true]);
    const reader = jsonLines(await server.post('/predictions/embedded', LONG));
    await reader.next();
    server.kill('SIGKILL');
    expect(await server.exited).toBe('SIGKILL');
    await allGone(workerPids);
    const rest = async (): Promise<void> => {
      // Some tokens may be on their way already.
      for await (const _line of reader);
    };
    await expect(rest()).rejects.toThrow();
  });
});

describe('a server that is asked to end', () => {
  it('finishes what it has begun, takes nothing new, and leaves with 0', async () => {
    const server = await start({ TENSOR_PARALLEL_DEGREE: '2' });
    const { url, workerPids } = server;
    const reader = jsonLines(await server.post('/predictions/embedded', LONG));
    await reader.next();
    server.kill('SIGTERM');
    await server.line((line) => line.msg.startsWith('SIGTERM'));
    let tokens = 1;
    let last: Record<string, unknown> = {};
    for await (const line of reader) {
      last = line;
      tokens++;
    }
    expect(tokens).toBe(400);
    expect(last).toHaveProperty('generated_text');
    expect(await server.exited).toBe(0);
    expect(workerPids.map(isRunning)).toEqual([false, false]);
    await expect(fetch(`${url}/ping`)).rejects.toThrow();
  });

  it('cuts what does not end within drain_timeout', async () => {
    const server = await start({ TENSOR_PARALLEL_DEGREE: '1', SERVING_DRAIN_TIMEOUT: '0' });
    const reader = jsonLines(await server.post('/predictions/embedded', LONG));
    await reader.next();
    server.kill('SIGTERM');
    const lines: unknown[] = [];
    for await (const line of reader) lines.push(line);
    expect(lines.length).toBeLessThan(399);
    expect(await server.exited).toBe(0);
  });
});

describe('a server with a bug', () => {
  it.each([
    ['a rejected promise', "Promise.reject(new Error('planted'))"],
    ['an exception', "setImmediate(() => { throw new Error('planted') })"],
  ])('that nobody caught, %s, ends what it has begun, says why, and leaves with 1', async (what, plant) => {
    const code = encodeURIComponent(`process.on('SIGUSR2', () => { ${plant} })`);
    const server = await start({
      TENSOR_PARALLEL_DEGREE: '1',
      NODE_OPTIONS: `--import=data:text/javascript,${code}`,
    });
    const reader = jsonLines(await server.post('/predictions/embedded', LONG));
    await reader.next();
    server.kill('SIGUSR2');
    const said = await server.line(({ level }) => level === 60);
    expect(said).toMatchObject({ err: { message: 'planted' }, msg: expect.stringContaining(what) });
    expect((await server.post('/predictions/embedded', LONG)).status).toBe(503);
    let tokens = 1;
    for await (const _ of reader) tokens++;
    expect(tokens).toBe(400);
    expect(await server.exited).toBe(1);
  });
});

describe('a server that cannot start', () => {
  it('says why and ends with 1 when a model cannot be split so, and leaves nothing', async () => {
    const server = new ServerProcess({ TENSOR_PARALLEL_DEGREE: '9' });
    servers.push(server);
    expect(await server.exited).toBe(1);
    expect(server.stderr).toMatch(/TENSOR_PARALLEL_INVALID.*degree 9.*1, 2, 3/s);
    expect(server.printed).toEqual([]);
  });

  it('says why and ends with 1 when its address is taken', async () => {
    const first = await start({ TENSOR_PARALLEL_DEGREE: '1' });
    const second = new ServerProcess({ TENSOR_PARALLEL_DEGREE: '1', SERVING_INFERENCE_ADDRESS: first.url });
    servers.push(second);
    expect(await second.exited).toBe(1);
    expect(second.stderr).toMatch(/inference_address.*in use/);
    // Before anything was loaded for it.
    expect(second.lines.filter(({ msg }) => msg === 'worker group starts')).toEqual([]);
    // The first one is still there.
    await new Promise<void>((resolve, reject) => {
      const { hostname, port } = new URL(first.url);
      const socket = createConnection(Number(port), hostname, () => resolve(socket.destroy() && undefined));
      socket.once('error', reject);
    });
  });
});

describe('a server that does not wait for its models', () => {
  it('listens before they are there, and serves them later', async () => {
    const server = new ServerProcess({ TENSOR_PARALLEL_DEGREE: '1', SERVING_WAIT_MODEL_LOADING: 'false' });
    servers.push(server);
    const listening = await server.line((line) => line.msg.startsWith('Server listening'));
    expect(server.lines.some((line) => line.msg === 'shard worker ready')).toBe(false);
    const [url] = /http:\S+/.exec(listening.msg)!;
    expect((await fetch(`${url}/v1/models`)).status).toBe(200);
    await server.ready();
    const response = await server.post('/predictions/embedded', {
      inputs: 'The',
      parameters: { max_new_tokens: 2 },
    });
    expect(response.status).toBe(200);
    expect(await server.stop()).toBe(0);
  });
});

describe('a server that is stopped while it loads', () => {
  it('leaves with 0 and no worker', async () => {
    const server = new ServerProcess({ TENSOR_PARALLEL_DEGREE: '2' });
    servers.push(server);
    await server.line((line) => line.msg.startsWith('loading weights'));
    server.kill('SIGINT');
    expect(await server.exited).toBe(0);
    expect(server.workerPids.filter(isRunning)).toEqual([]);
  });
});

describe('dynamic batching, as a user sets it', () => {
  it('answers four requests of two batches', async () => {
    const server = await start({
      TENSOR_PARALLEL_DEGREE: '1',
      SERVING_BATCH_SIZE: '2',
      SERVING_MAX_BATCH_DELAY: '50',
    });
    const answers = await Promise.all(
      [3, 9, 4, 5].map(async (tokens) => {
        const parameters = { max_new_tokens: tokens, do_sample: false, ignore_eos: true };
        const response = await server.post('/predictions/embedded', { inputs: 'The king', parameters });
        return (await response.json()) as { generated_text: string };
      }),
    );
    const texts = answers.map((answer) => answer.generated_text);
    const longest = texts[1]!;
    for (const text of texts) expect(longest.startsWith(text)).toBe(true);
    expect(new Set(texts).size).toBe(4);
  });
});
