/** A full disk behind the server's logs: it serves, tells what it lost, and ends when it is asked to. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, symlinkSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { repositoryRoot } from '../../support/repository-root.js';

let folder: string;
let server: ChildProcess | null = null;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'shardserve-full-'));
});
afterEach(() => {
  server?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

function startServer(environment: Record<string, string> = {}): { socket: string; child: ChildProcess } {
  const full = openSync('/dev/full', 'w');
  const socket = path.join(folder, 'http.sock');
  const child = spawn(process.execPath, ['server/shardserve.mjs', 'start'], {
    cwd: repositoryRoot,
    stdio: ['ignore', full, 'ignore'],
    env: {
      ...process.env,
      SERVING_INFERENCE_ADDRESS: `unix:${socket}`,
      SERVING_MANAGEMENT_ADDRESS: `unix:${socket}`,
      SERVING_LOAD_MODELS: 'NONE',
      SERVING_MODEL_STORE: folder,
      SERVING_LOG_LEVEL: 'debug',
      ...environment,
    },
  });
  closeSync(full);
  server = child;
  return { socket, child };
}

/** A socket's file has no event that says that somebody listens behind it. */
async function listening(socketPath: string, child: ChildProcess): Promise<void> {
  while (child.exitCode === null) {
    const socket = connect(socketPath);
    const open = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('the server ended');
}

async function get(socketPath: string, target: string): Promise<{ status: number; text: string }> {
  const sent = request({ socketPath, path: target, agent: false }).end();
  const [response] = (await once(sent, 'response')) as [import('node:http').IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode!, text };
}

it('a server whose standard output is on a full disk serves, and ends on SIGTERM', async () => {
  const { child, socket } = startServer();
  await listening(socket, child);
  for (let index = 0; index < 20; index++) expect((await get(socket, '/nothing')).status).toBe(404);
  expect((await get(socket, '/ping')).status).toBe(200);
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([0, null]);
}, 60_000);

it('a log folder on a full disk too: the metrics count the lines', async () => {
  // Opening it succeeds; every write ends in ENOSPC.
  const logs = path.join(folder, 'logs');
  mkdirSync(logs);
  for (const name of ['serving', 'access', 'server_metric', 'model_metric'])
    symlinkSync('/dev/full', path.join(logs, `${name}.log`));
  const { child, socket } = startServer({ SERVING_LOG_FOLDER: logs });
  await listening(socket, child);
  expect((await get(socket, '/ping')).status).toBe(200);
  expect((await get(socket, '/ping')).status).toBe(200);
  const { text } = await get(socket, '/metrics');
  expect(
    Number(/^shardserve_log_lines_dropped_total{output="access.log"} (\d+)$/m.exec(text)?.[1]),
  ).toBeGreaterThan(0);
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([0, null]);
}, 60_000);
