/**
 * The Python side of a pack: shardserve_pipeline.py in a training loop gives the bytes that the pack gives here, in evaluation and in training, by
 * PyTorch's DataLoader where there is one. Skipped without a Python that has NumPy: PYTHON_TORCH, PYTHON_CLIENTS, else a virtual environment made here.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, it } from 'vitest';
import {
  file,
  image,
  load,
  script,
  type Tensor,
  type Traced,
  tensor,
  text,
  trace,
} from '../../pipeline/pipeline-api.js';
import { npyOf } from '../../pipeline/value-frame.js';
import { repositoryRoot } from '../support/repository-root.js';

const scratch = mkdtempSync(path.join(tmpdir(), 'pipeline-python-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const ITEMS = 24;

/** null: this machine has none and cannot make one. */
function pythonWithNumpy(): string | null {
  const own = path.join(scratch, 'python', 'bin', 'python');
  for (const given of [process.env.PYTHON_TORCH, process.env.PYTHON_CLIENTS, 'python3']) {
    try {
      if (given === undefined) continue;
      execFileSync(given, ['-c', 'import numpy'], { stdio: 'ignore' });
      return given;
    } catch {}
  }
  try {
    execFileSync('python3', ['-m', 'venv', path.dirname(path.dirname(own))], { stdio: 'ignore' });
    execFileSync(own, ['-m', 'pip', 'install', '--quiet', 'numpy'], { stdio: 'ignore', timeout: 300_000 });
    return own;
  } catch {
    return null;
  }
}
const python = pythonWithNumpy();

/** All items in their order, each tensor as NumPy's file in hexadecimal. */
const PROGRAM = `
import io, json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from shardserve_pipeline import PackDataset
items = [{"words": one["words"], "picture": bytes.fromhex(one["picture"])} for one in json.load(open(sys.argv[2]))]

def shown(array):
    np.save(target := io.BytesIO(), np.asarray(array))
    return target.getvalue().hex()

command = (sys.argv[4], sys.argv[5])
told = {}
for mode, seed in (("eval", 0), ("train", 3)):
    data = PackDataset(sys.argv[3], items, mode=mode, seed=seed, command=command)
    try:
        from torch.utils.data import DataLoader
        data = DataLoader(data, batch_size=None, num_workers=2)
        told["loader"] = True
    except ImportError:
        data = [data[at] for at in range(len(data))]
    told[mode] = [{name: shown(array) for name, array in one.items()} for one in data]
print(json.dumps(told))
`;

it.skipIf(python === null)(
  'a training loop in Python gets the tensors of the pack, to the byte, epoch by epoch',
  async () => {
    const words = path.join(scratch, 'words.txt');
    writeFileSync(words, 'hello\nworld\nünïcode\n日本\n[UNK]\n');
    const [lower, split, ids, pad] = [
      text.lower(),
      text.split(),
      text.vocabulary(file(words)),
      tensor.pad(16, 4),
    ];
    const [decode, resize, crop] = [image.decode(), image.resize(24), image.randomCrop(20)];
    const [flip, planes] = [image.randomFlip(), image.planes()];
    const wrap = script((one: unknown) => [one]);
    const pictureOf = async (at: number): Promise<Uint8Array> => {
      const [width, height] = [24 + at, 30];
      const data = Buffer.from(
        Array.from({ length: width * height * 3 }, (_, index) => (index * (at + 7)) % 251),
      );
      return new Uint8Array(
        await sharp(data, { raw: { width, height, channels: 3 } })
          .png()
          .toBuffer(),
      );
    };
    const items = await Promise.all(
      Array.from({ length: ITEMS }, async (_, at) => ({
        words: `Hello ${'Ünïcode '.repeat(at % 4)}日本 ${at}`,
        picture: await pictureOf(at),
      })),
    );
    const traced = await trace(
      (texts: Traced, picture: Traced) => ({
        ids: pad(wrap(ids(split(lower(texts))))),
        pixels: planes(flip(crop(resize(decode(picture))))),
      }),
      // The names of the parameters are those of the feeds.
      { texts: items[0]!.words, picture: items[0]!.picture },
    );
    const pack = path.join(scratch, 'pack');
    await traced.save(pack);
    const program = path.join(scratch, 'loop.py');
    writeFileSync(program, PROGRAM.replaceAll('"words": one', '"texts": one'));
    const listed = path.join(scratch, 'items.json');
    writeFileSync(
      listed,
      JSON.stringify(items.map((one) => ({ ...one, picture: Buffer.from(one.picture).toString('hex') }))),
    );
    const bin = path.join(repositoryRoot, 'server/shardserve.mjs');
    const args = [program, path.join(repositoryRoot, 'pipeline/python'), listed, pack, process.execPath, bin];
    const told = JSON.parse(execFileSync(python!, args, { encoding: 'utf8', maxBuffer: 2 ** 28 })) as Record<
      'eval' | 'train',
      Record<string, string>[]
    >;
    const here = await load(pack);
    for (const [mode, seed] of [
      ['eval', 0],
      ['train', 3],
    ] as const) {
      expect(told[mode]).toHaveLength(ITEMS);
      for (const [at, { picture, words: texts }] of items.entries()) {
        const options = { mode, seed: seed * ITEMS + at };
        const wanted = (await here.run({ texts, picture }, options)) as Record<string, Tensor>;
        for (const [name, value] of Object.entries(wanted))
          expect(told[mode][at]![name], `${mode} ${at} ${name}`).toBe(
            Buffer.from(npyOf(value)).toString('hex'),
          );
      }
    }
    // Chance moved something.
    expect(told.train.map(({ pixels }) => pixels)).not.toEqual(told.eval.map(({ pixels }) => pixels));
  },
  600_000,
);
