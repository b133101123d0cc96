/**
 * The container image, without a container engine: the Dockerfile's own steps in a folder, and its entry point there as the file's user, on a
 * read-only root with one volume that begins empty.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { repositoryRoot } from '../support/repository-root.js';

interface Image {
  folder: string;
  stage: {
    user: string;
    volumes: string[];
    ports: number[];
    env: Record<string, string>;
    healthcheck: string[];
  };
  megabytes: number;
}

interface ImageFolder {
  imageObstacle(): string | null;
  assembleImage(scratch: string): Image;
  runImage(
    image: Image,
    options: {
      command?: string[];
      env?: Record<string, string>;
      volumes?: Record<string, string>;
      stdio: ('ignore' | 'pipe' | 'inherit')[];
    },
  ): ChildProcess;
}

const { assembleImage, imageObstacle, runImage } = (await import(
  pathToFileURL(`${repositoryRoot}/docker/image-folder.mjs`).href
)) as ImageFolder;

/** Packages, the program and the embedded model; a stray folder or compiler would go beyond it. */
const MAX_MEGABYTES = 300;
const NODE_UID = 1000;
/** Half a gigabyte of packages is copied, and deleted again: seconds, or minutes where the disk is busy. */
const COPY_LIMIT_MS = 600_000;
const VOLUME = '/var/lib/shardserve';
const KEYS = { SERVING_API_KEY: 'k'.repeat(32), SERVING_MANAGEMENT_KEY: 'm'.repeat(32) };
const HANDLER = `
import { Input, Output } from 'shardserve/handler';
export const handle = (inputs: Input) => inputs.isEmpty() ? null : new Output().add({ words: inputs.getAsString().split(' ') });
`;

describe.skipIf(imageObstacle() !== null)('the container image', () => {
  let scratch: string;
  let image: Image;
  const running = new Set<ChildProcess>();

  const emptyVolume = (name: string): string => {
    const folder = path.join(scratch, name);
    mkdirSync(folder);
    chownSync(folder, NODE_UID, NODE_UID);
    return folder;
  };
  /** Its end and all it printed, when it ends by itself. */
  async function endOf(child: ChildProcess): Promise<{ code: number | null; text: string }> {
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
    }
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, text };
  }

  beforeAll(async () => {
    scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-image-'));
    image = assembleImage(scratch);
    mkdirSync(path.join(scratch, 'models'));
    const zip = new ZipFile();
    zip.addBuffer(Buffer.from(HANDLER), 'model.ts');
    zip.end();
    await pipeline(zip.outputStream, createWriteStream(path.join(scratch, 'models/words.zip')));
  }, COPY_LIMIT_MS);
  afterAll(async () => {
    for (const child of running) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'close');
    }
    rmSync(scratch, { recursive: true, force: true });
  }, COPY_LIMIT_MS);

  it('holds what runs and nothing of what builds or tests, in bounded size', () => {
    const at = (name: string): string => path.join(image.folder, 'opt/shardserve', name);
    expect(
      ['dist/server/main.js', 'models/embedded', 'node_modules/fastify'].filter(
        (one) => !existsSync(at(one)),
      ),
    ).toEqual([]);
    const unwanted = ['test', 'dist/test', 'node_modules/typescript', 'node_modules/vitest', '.git'];
    expect(unwanted.filter((one) => existsSync(at(one)))).toEqual([]);
    console.log(`The image has ${image.megabytes} MB on top of its base.`);
    expect(image.megabytes).toBeLessThan(MAX_MEGABYTES);
  });

  it('runs as a user who owns its one volume, in which everything that is written lies', () => {
    const { env, user, volumes } = image.stage;
    expect({ user, volumes }).toEqual({ user: 'node', volumes: [VOLUME] });
    expect(statSync(path.join(image.folder, VOLUME)).uid).toBe(NODE_UID);
    const written = ['SERVING_SHARD_STORE', 'SERVING_DOWNLOAD_DIR', 'SERVING_LOG_FOLDER', 'TMPDIR'];
    expect(written.filter((name) => !env[name]?.startsWith(`${VOLUME}/`))).toEqual([]);
  });

  it('refuses to start without keys', async () => {
    const volumes = { [VOLUME]: emptyVolume('keyless') };
    const { code, text } = await endOf(runImage(image, { volumes, stdio: ['ignore', 'pipe', 'pipe'] }));
    expect(code).toBe(1);
    expect(text).toMatch(/CONFIG_INVALID.*insecure=true/);
  });

  it('serves on a read-only root with an empty volume, and writes shards, models, logs and sockets there', async () => {
    const volume = emptyVolume('volume');
    const env = {
      ...KEYS,
      SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0',
      SERVING_LOAD_MODELS: 'embedded=/opt/shardserve/models/embedded,words=/models/words.zip',
    };
    const volumes = { [VOLUME]: volume, '/models': path.join(scratch, 'models') };
    const server = runImage(image, { env, volumes, stdio: ['ignore', 'pipe', 'inherit'] });
    running.add(server);
    let url = '';
    const lines: string[] = [];
    for await (const line of createInterface({ input: server.stdout! })) {
      lines.push(line);
      url = /^curl -N (http:\/\/\S+?)\/predictions/.exec(line)?.[1] ?? '';
      if (url !== '') break;
    }
    expect(url, lines.join('\n')).not.toBe('');
    server.stdout!.resume();
    const status = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'));
    expect(status?.[1]).toBe(String(NODE_UID));
    expect((await fetch(`${url}/ping`)).status).toBe(200);
    const post = async (target: string, body: object): Promise<unknown> => {
      const headers = { authorization: `Bearer ${KEYS.SERVING_API_KEY}`, 'content-type': 'application/json' };
      return (await fetch(`${url}${target}`, { method: 'POST', headers, body: JSON.stringify(body) })).json();
    };
    expect(
      await post('/v1/completions', { model: 'embedded', prompt: 'Once upon a time', max_tokens: 4 }),
    ).toMatchObject({
      choices: [{ text: expect.stringMatching(/\w/) }],
    });
    expect(await post('/predictions/words', { a: 1 })).toEqual({ words: [JSON.stringify({ a: 1 })] });

    const [, port] = /:(\d+)$/.exec(url)!;
    expect(image.stage.ports).toEqual([8080]);
    const command = image.stage.healthcheck.map((part) =>
      part.replace('127.0.0.1:8080', `127.0.0.1:${port}`),
    );
    expect((await endOf(runImage(image, { command, stdio: ['ignore', 'pipe', 'pipe'] }))).code).toBe(0);

    expect(readdirSync(volume).sort()).toEqual(['downloads', 'logs', 'shards', 'tmp']);
    expect(readdirSync(path.join(volume, 'logs'))).toContain('serving.log');
    for (const name of ['downloads', 'shards', 'tmp']) {
      expect(readdirSync(path.join(volume, name)), name).not.toEqual([]);
    }
    server.kill('SIGTERM');
    expect(await once(server, 'close')).toEqual([0, null]);
  });
});
