#!/usr/bin/env node
/**
 * Tries the container image without a container engine: assembles it, starts it on a read-only root with an empty volume, asks it.
 *
 * In      nothing; --keep leaves the folder
 * Out     the steps, the size, the answers; exit code 0 when all were as they should be
 * Errors  one sentence where this machine does not permit it, and exit code 2
 */
import { once } from 'node:events';
import { chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { assembleImage, imageObstacle, runImage } from './image-folder.mjs';

const VOLUME = '/var/lib/shardserve';
const KEY = 'tried-without-a-container-engine';

const obstacle = imageObstacle();
if (obstacle !== null) {
  console.error(obstacle);
  process.exit(2);
}
let server = null;
const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-image-'));
try {
  const image = assembleImage(scratch, { log: console.log });
  console.log(`The image has ${image.megabytes} MB on top of its base.`);
  const volume = path.join(scratch, 'volume');
  mkdirSync(volume);
  chownSync(volume, 1000, 1000);
  server = runImage(image, {
    env: {
      SERVING_API_KEY: KEY,
      SERVING_MANAGEMENT_KEY: `${KEY}-manage`,
      SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0',
    },
    volumes: { [VOLUME]: volume },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
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
  console.log(
    `POST /v1/completions: ${answer.status} ${JSON.stringify((await answer.json()).choices?.[0]?.text)}`,
  );
  server.kill('SIGTERM');
  const [code] = await once(server, 'close');
  console.log(`SIGTERM: exit code ${code}`);
  if (!answer.ok || code !== 0) process.exitCode = 1;
} finally {
  server?.kill('SIGKILL');
  if (process.argv.includes('--keep')) console.log(scratch);
  else rmSync(scratch, { recursive: true, force: true });
}
