/** TorchServe's default handlers: archives without code of their own, asked over HTTP; answers as Python's on the same models. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
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
    if (name === 'image_classifier') await expectRegions(cases[1]!);
    await manager.unregister(name, null);
  });

  /** What an image is taken for comes from the regions where the thing is; without one of them it is what the model says of such an image. */
  async function expectRegions({ answer, image }: Case): Promise<void> {
    const bytes = Buffer.from(image!, 'base64');
    const send = async (target: string, headers: Record<string, string> = {}) => {
      const url = `${http.url}/${target}`;
      const sent = { method: 'POST', headers: { 'content-type': 'image/png', ...headers }, body: bytes };
      return (await fetch(url, sent)).json() as Promise<Record<string, unknown>>;
    };
    const occluded = await send('explanations/image_classifier?method=occlusion');
    const importances = occluded.importances as number[];
    expect(occluded).toMatchObject({ shape: [8, 8], target: 'square', evaluations: 66 });
    expect(occluded.score).toBeCloseTo((answer as Record<string, number>).square!, 2);
    const best = importances.indexOf(Math.max(...importances));
    const { data, info } = await sharp(bytes).greyscale().raw().toBuffer({ resolveWithObject: true });
    const bright = Array.from(data, (value, at) => ({
      value,
      x: at % info.width,
      y: Math.floor(at / info.width),
    }))
      .filter(({ value }) => value > 150)
      // The middle of the longer side is what the model sees.
      .map(({ x, y }) => [x - (info.width - info.height) / 2, y].map((one) => (8 * one) / info.height));
    const [left, top, right, bottom] = [0, 1, 0, 1].map((axis, at) =>
      Math[at < 2 ? 'min' : 'max'](...bright.map((one) => one[axis]!)),
    );
    expect([best % 8, Math.floor(best / 8)]).toEqual([
      expect.toSatisfy((x: number) => x >= left! - 1 && x <= right! + 1),
      expect.toSatisfy((y: number) => y >= top! - 1 && y <= bottom! + 1),
    ]);
    const kept = importances.map((_, at) => (at === best ? '0' : '1')).join('');
    const without = await send('predictions/image_classifier', { 'x-explain-kept': kept });
    expect(importances[best]).toBeCloseTo((occluded.score as number) - (without.square as number), 6);
    const shared = await send('explanations/image_classifier?samples=2&target=circle');
    expect(shared).toMatchObject({ target: 'circle', delta: expect.closeTo(0, 9) });
    const few = await send('predictions/image_classifier', { 'x-explain-kept': '101' });
    expect(few).toMatchObject({ message: expect.stringMatching(/64 regions/) });
  }

  it('were trained to be right', () => {
    const accuracy = JSON.parse(readFileSync(path.join(MODELS, 'accuracy.json'), 'utf8')) as Record<
      string,
      number
    >;
    expect(Object.keys(accuracy)).toHaveLength(5);
    expect(Math.min(...Object.values(accuracy))).toBeGreaterThan(0.98);
  });
});
