/** Bert + Resnet as the article has it: texts and images, eight of each, one joint ONNX model of real shape, one pack, served; beside torch and PIL. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { file, image, load, model, tensor, text, trace } from '../../pipeline/pipeline-api.js';
import type { Tensor } from '../../pipeline/pipeline-value.js';
import { loadConfig } from '../../server/config/load-config.js';
import { HandlerEngine } from '../../server/engines/handlers/handler-engine.js';
import { WorkLoadManager } from '../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../fixtures/log-recorder.js';
import { startServer } from '../support/http-fixtures.js';
import { repositoryRoot } from '../support/repository-root.js';

interface Case {
  text: string;
  image: string;
  exact: boolean;
  logits: number[];
}

/** Where pixels are the same, the rest is float32 in another order; where they were resized, libvips and PIL differ by a level or two. */
const EXACT = 1e-5;
const RESIZED = 0.01;
/** One with torch, transformers, onnx, pillow (test/golden/requirements.txt). */
const PYTHON = process.env.PYTHON_TORCH ?? 'python3';
const folder = mkdtempSync(path.join(tmpdir(), 'joint-model-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hasTorch = (): boolean => {
  try {
    execFileSync(PYTHON, ['-c', 'import torch, transformers, onnx, PIL'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

it.skipIf(!hasTorch())(
  'a joint model of a BERT and a ResNet-18, packed and served, answers as torch does',
  async () => {
    execFileSync(PYTHON, [path.join(repositoryRoot, 'test/golden/make_joint_model.py'), folder], {
      stdio: 'ignore',
    });
    const cases = JSON.parse(readFileSync(path.join(folder, 'cases.json'), 'utf8')) as Case[];
    const tokenise = text.tokenizer(file(path.join(folder, 'tokenizer.json')));
    const [pad, mask] = [tensor.pad(), tensor.mask()];
    const [decode, resize, crop] = [image.decode(), image.resize(256), image.centreCrop(224)];
    const [planes, stack] = [image.planes(), image.stack()];
    const joint = model.onnx(file(path.join(folder, 'joint.onnx')));
    const feeds = {
      texts: cases.map((one) => one.text),
      images: cases.map((one) => new Uint8Array(Buffer.from(one.image, 'base64'))),
    };
    const traced = await trace((texts, images) => {
      const ids = tokenise(texts!);
      return joint(pad(ids), mask(ids), stack(planes(crop(resize(decode(images!))))));
    }, feeds);
    const store = path.join(folder, 'store');
    const pack = path.join(store, 'my_multimodal');
    await traced.save(pack);
    for (const name of ['joint.onnx', 'tokenizer.json']) rmSync(path.join(folder, name));
    const near = (rows: number[][], label: string): void => {
      expect(rows).toHaveLength(cases.length);
      cases.forEach(({ exact, logits }, at) => {
        const worst = Math.max(...logits.map((one, index) => Math.abs(one - rows[at]![index]!)));
        const largest = Math.max(...logits.map(Math.abs));
        expect(worst / largest, `${label}, case ${at}`).toBeLessThan(exact ? EXACT : RESIZED);
      });
    };
    near(((await (await load(pack)).run(feeds)) as Tensor).toList() as number[][], 'loaded');

    const config = loadConfig({ argv: ['-s', store], cwd: folder, installation: folder, env: {} });
    const manager = new WorkLoadManager({
      engineOf: () => new HandlerEngine(),
      logger: new LogRecorder().logger,
    });
    const http = await startServer({ maxRequestBytes: 64 * 2 ** 20 }, null, {
      service: manager,
      management: manager,
    });
    try {
      await manager.load(config.models[0]!);
      const response = await fetch(`${http.url}/predictions/my_multimodal`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ texts: feeds.texts, images: cases.map((one) => ({ $bytes: one.image })) }),
      });
      const answer = (await response.json()) as number[][];
      expect([response.status, Array.isArray(answer)]).toEqual([200, true]);
      near(answer, 'served');
    } finally {
      await manager.close();
      await http.server.close();
    }
  },
  600_000,
);
