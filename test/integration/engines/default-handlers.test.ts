/** TorchServe's default handlers: archives without code of their own, asked over HTTP; answers as Python's on the same models. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { archiveModel } from '../../../server/archive-main.js';
import { loadConfig } from '../../../server/config/load-config.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { repositoryRoot } from '../../support/repository-root.js';

const MODELS = path.join(repositoryRoot, 'test/golden/handler-models');
/** For chances: libvips and PIL resize alike, but not to the bit. */
const IMAGE_TOLERANCE = 0.02;
const TEXT_TOLERANCE = 1e-5;

interface Case {
  text?: string;
  /** Base64 of a PNG. */
  image?: string;
  answer: unknown;
}
const casesOf = (name: string) =>
  JSON.parse(readFileSync(path.join(MODELS, name, 'cases.json'), 'utf8')) as Case[];

/** The largest difference of two answers' numbers; infinite where anything else differs. */
function difference(given: unknown, wanted: unknown): number {
  if (typeof given === 'number' && typeof wanted === 'number') return Math.abs(given - wanted);
  if (typeof given !== 'object' || typeof wanted !== 'object' || given === null || wanted === null)
    return given === wanted ? 0 : Number.POSITIVE_INFINITY;
  const left = given as Record<string, unknown>;
  const right = wanted as Record<string, unknown>;
  const keys = Object.keys(right);
  if (keys.length !== Object.keys(left).length) return Number.POSITIVE_INFINITY;
  return Math.max(
    0,
    ...keys.map((key) =>
      Object.hasOwn(left, key) ? difference(left[key], right[key]) : Number.POSITIVE_INFINITY,
    ),
  );
}

describe('default handlers', () => {
  const root = mkdtempSync(path.join(tmpdir(), 'shardserve-defaults-'));
  let manager: WorkLoadManager;
  let http: TestServer;

  beforeAll(async () => {
    manager = new WorkLoadManager({ engineOf: () => new HandlerEngine(), logger: new LogRecorder().logger });
    http = await startServer({}, null, { service: manager, management: manager });
  });
  afterAll(async () => {
    await manager.close();
    await http.server.close();
    rmSync(root, { recursive: true, force: true });
  });

  const ask = (name: string, { image, text }: Case) =>
    fetch(`${http.url}/predictions/${name}`, {
      method: 'POST',
      headers: { 'content-type': image === undefined ? 'application/json' : 'image/png' },
      body: image === undefined ? JSON.stringify({ text }) : Buffer.from(image, 'base64'),
    });

  it.each([
    ['text_classifier', ['index_to_name.json', 'tokenizer.json'], TEXT_TOLERANCE],
    ['token_classifier', ['index_to_name.json', 'tokenizer.json'], TEXT_TOLERANCE],
    ['text_to_embedding', ['tokenizer.json'], TEXT_TOLERANCE],
    ['image_classifier', ['index_to_name.json'], IMAGE_TOLERANCE],
    ['image_segmenter', [], IMAGE_TOLERANCE],
    ['object_detector', ['index_to_name.json'], 0],
  ] as const)('%s answers as Python does, alone and in a batch', async (name, extra, tolerance) => {
    const folder = path.join(MODELS, name);
    const store = path.join(root, name);
    await archiveModel([
      ...['--model-name', name, '--handler', name, '--export-path', store, '--archive-format', 'no-archive'],
      ...['--serialized-file', path.join(folder, 'model.onnx')],
      ...['--extra-files', extra.map((one) => path.join(folder, one)).join(',')],
    ]);
    const { models } = loadConfig({
      ...{ argv: ['-s', store], cwd: root, installation: root },
      env: {
        SERVING_DOWNLOAD_DIR: path.join(root, 'downloads'),
        SERVING_BATCH_SIZE: '8',
        SERVING_MAX_BATCH_DELAY: '5',
      },
    });
    expect(models).toMatchObject([{ name, entryPoint: `builtin:${name}` }]);
    await manager.load(models[0]!);
    const cases = casesOf(name);
    const alone = await (await ask(name, cases[0]!)).json();
    expect(difference(alone, cases[0]!.answer)).toBeLessThanOrEqual(tolerance);
    const many = [...cases, ...cases];
    const answers = await Promise.all(many.map(async (one) => (await ask(name, one)).json()));
    const worst = answers.map((answer, index) => difference(answer, many[index]!.answer));
    expect(Math.max(...worst)).toBeLessThanOrEqual(tolerance);
    const wrong = await ask(
      name,
      name.startsWith('t') ? { answer: null } : { image: 'bm8gaW1hZ2U=', answer: null },
    );
    expect(wrong.status).toBe(400);
    expect(await wrong.text()).toMatch(/must be a text|cannot be read/);
    await manager.unregister(name, null);
  });

  it('were trained to be right', () => {
    const accuracy = JSON.parse(readFileSync(path.join(MODELS, 'accuracy.json'), 'utf8')) as Record<
      string,
      number
    >;
    expect(Object.keys(accuracy)).toHaveLength(5);
    expect(Math.min(...Object.values(accuracy))).toBeGreaterThan(0.98);
  });
});
