#!/usr/bin/env node
/**
 * Tries the container images without a container engine: assembles them, starts each on a read-only root with an empty volume, asks it.
 *
 * In      nothing: docker/Dockerfile. --cuda WHEELS: also docker/Dockerfile.cuda, CUDA's packages (`shardserve gpu install --help` names them) as
 *         wheels in a folder. --keep leaves the folder
 * Out     the steps, the size, the answers; exit code 0 when all were as they should be
 * Errors  one sentence where this machine does not permit it, and exit code 2
 */
import { once } from 'node:events';
import { chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { assembleImage, imageObstacle, runImage } from './image-folder.mjs';

const VOLUME = '/var/lib/shardserve';
const KEY = 'tried-without-a-container-engine';
const { values } = parseArgs({ options: { cuda: { type: 'string' }, keep: { type: 'boolean' } } });

const obstacle = imageObstacle();
if (obstacle !== null) {
  console.error(obstacle);
  process.exit(2);
}
const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-image-'));
const running = new Set();

function emptyFolder(name) {
  const folder = path.join(scratch, name);
  mkdirSync(folder);
  return folder;
}

function start(image, env) {
  const volume = emptyFolder(`volume-${running.size}`);
  chownSync(volume, 1000, 1000);
  const server = runImage(image, {
    env: {
      ...{ SERVING_API_KEY: KEY, SERVING_MANAGEMENT_KEY: `${KEY}-manage` },
      ...{ SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0', ...env },
    },
    volumes: { [VOLUME]: volume },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(server);
  server.stderr.pipe(process.stderr);
  return server;
}

/** Starts it, asks it, ends it. @returns whether all was as it should be */
async function serves(image, env = {}) {
  const server = start(image, env);
  let url = null;
  for await (const line of createInterface({ input: server.stdout })) {
    url = /^curl -N (http:\/\/\S+?)\/predictions/.exec(line)?.[1] ?? null;
    if (url !== null) break;
    console.log(line);
  }
  if (url === null) throw new Error('the server ended before it was ready');
  server.stdout.resume();
  console.log(`GET /ping: ${(await fetch(`${url}/ping`)).status}`);
  const answer = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'embedded', prompt: 'Once upon a time', max_tokens: 16 }),
  });
  const text = (await answer.json()).choices?.[0]?.text;
  console.log(`POST /v1/completions: ${answer.status} ${JSON.stringify(text)}`);
  server.kill('SIGTERM');
  const [code] = await once(server, 'close');
  console.log(`SIGTERM: exit code ${code}`);
  return answer.ok && code === 0;
}

async function triesCuda(base, wheels) {
  const index = new Worker(new URL('wheel-index.mjs', import.meta.url), { workerData: wheels });
  const [address] = await once(index, 'message');
  const image = assembleImage(emptyFolder('cuda'), {
    ...{ file: 'docker/Dockerfile.cuda', bases: { shardserve: base }, log: console.log },
    args: { PIP_INDEX_URL: address },
  });
  await index.terminate();
  console.log(`The image with CUDA has ${image.megabytes} MB on top of its base.`);
  // Without a card: it says so, and the same image serves on the CPU.
  const refused = start(image, {});
  refused.stdout.pipe(process.stdout);
  const [code] = await once(refused, 'close');
  console.log(`Without a driver: exit code ${code}`);
  return (await serves(image, { OPTION_DEVICE: 'cpu' })) && code === 1;
}

try {
  const image = assembleImage(emptyFolder('cpu'), { log: console.log });
  console.log(`The image has ${image.megabytes} MB on top of its base.`);
  let isRight = await serves(image);
  if (values.cuda !== undefined) isRight = (await triesCuda(image, path.resolve(values.cuda))) && isRight;
  if (!isRight) process.exitCode = 1;
} finally {
  for (const server of running) server.kill('SIGKILL');
  if (values.keep) console.log(scratch);
  else rmSync(scratch, { recursive: true, force: true });
}
