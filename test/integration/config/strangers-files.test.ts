/** Configuration that came with a model, written by a stranger and read by the server itself: how large and how many. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Problems } from '../../../server/config/problems.js';
import { torchServeModel } from '../../../server/config/torchserve-model.js';
import { tritonModel } from '../../../server/config/triton-model.js';
import { readWorkflow } from '../../../server/workflows/read-workflow.js';

const root = mkdtempSync(path.join(tmpdir(), 'shardserve-strangers-'));
afterAll(() => rmSync(root, { recursive: true }));
function folderWith(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(path.join(root, 'model-'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
  return folder;
}
const throwing = <T>(read: (problems: Problems) => T): T => {
  const problems = new Problems();
  const found = read(problems);
  problems.throwIfAny();
  return found;
};

describe('warm-ups of a config.pbtxt', () => {
  const warmUps = (text: string) => {
    const config = `platform: "onnxruntime_onnx" max_batch_size: 4 ${text}`;
    const folder = folderWith({ 'config.pbtxt': config, '1/model.onnx': '' });
    return throwing((problems) => tritonModel(folder, null, 'm', problems)).repository?.warmUps ?? [];
  };
  const warmUp = (dims: string, more = ''): string =>
    `model_warmup { ${more} inputs { key: "x" value: { dims: [ ${dims} ] } } }`;

  it('an input of milliards of zeros is refused with its shape', () => {
    for (const dims of ['2000000000', '100000, 100000', '1e30'])
      expect(() => warmUps(warmUp(dims))).toThrow(
        /model_warmup has an input of \[1,.*\], of at most 268435456 bytes/,
      );
    expect(warmUps(warmUp('512, 1024'))).toEqual([{ runs: 1, shapes: { x: [1, 512, 1024] } }]);
  });

  it('all together run a hundred times at most', () => {
    const many = Array.from({ length: 50 }, () => warmUp('2', 'count: 30')).join(' ');
    expect(warmUps(many).map(({ runs }) => runs)).toEqual([30, 30, 30, 10]);
    expect(warmUps(warmUp('2', 'count: 1000000000'))).toMatchObject([{ runs: 100 }]);
  });
});

/** 16 MB of it once took gigabytes and stood still the server that read it. */
it('YAML is read to a quarter of a megabyte, of an archive and of a workflow', () => {
  const yaml = `a: [${'[],'.repeat(100_000)}]`;
  const words = `has ${yaml.length} bytes, of at most 262144`;
  const archive = folderWith({ 'MAR-INF/MANIFEST.json': '{"model": {}}', 'model-config.yaml': yaml });
  expect(() => throwing((problems) => torchServeModel(archive, 'm', problems))).toThrow(
    `model-config.yaml ${words}`,
  );
  expect(() => readWorkflow(folderWith({ 'workflow.yml': yaml }))).toThrow(`workflow.yml ${words}`);
});
