/** partitioner/store: shards are whole or not there, used again while nothing changed, and safe from a second writer. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type PartitionOptions, partition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { halfBytes, safetensorsBytes, type WrittenTensor } from '../../fixtures/safetensors-bytes.js';
import { TOY_CONFIG } from '../../fixtures/toy-config.js';
import { goldenFolder } from '../../support/golden.js';
import { repositoryRoot } from '../../support/repository-root.js';

const PROGRAM = path.join(repositoryRoot, 'dist', 'partitioner', 'main.js');

let scratch: string;
let store: string;
let model: string;
beforeEach(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'partition-store-'));
  store = path.join(scratch, 'store');
  model = path.join(scratch, 'model');
  cpSync(goldenFolder('llama'), model, { recursive: true });
});
afterEach(() => rmSync(scratch, { recursive: true }));

const split = (options: Partial<PartitionOptions> = {}) =>
  partition({ folder: model, outStore: store, tp: 2, dtype: 'fp32', ...options });

describe('shards that are there', () => {
  it('are used again, without a byte written', async () => {
    const first = await split();
    const times = () =>
      readdirSync(first.shardFolder, { recursive: true, encoding: 'utf8' }).map(
        (file) => statSync(path.join(first.shardFolder, file)).mtimeMs,
      );
    const before = times();
    const second = await split();
    expect(second).toEqual({ ...first, reused: true });
    expect(times()).toEqual(before);
    expect(readdirSync(store)).toEqual([first.manifest.name]);
  });

  it('are the user’s alone', async () => {
    const { shardFolder } = await split();
    const modes = [store, shardFolder].map((folder) => (statSync(folder).mode & 0o777).toString(8));
    expect(modes).toEqual(['700', '700']);
  });

  it('are others for another degree, type, block, seed or config.json', async () => {
    const names = [];
    const toy = path.join(scratch, 'toy');
    mkdirSync(toy);
    for (const changes of [{}, { rms_norm_eps: 1e-6 }]) {
      writeFileSync(path.join(toy, 'config.json'), JSON.stringify({ ...TOY_CONFIG, ...changes }));
      const options = { folder: toy, randomWeights: true };
      names.push((await split(options)).manifest.name);
      names.push((await split({ ...options, tp: 4 })).manifest.name);
      names.push((await split({ ...options, seed: 1 })).manifest.name);
      names.push((await split({ ...options, dtype: 'int4' })).manifest.name);
      names.push((await split({ ...options, dtype: 'int4', blockSize: 64 })).manifest.name);
    }
    expect(new Set(names).size).toBe(10);
  });

  it('are made again when a checkpoint file changed, even with its old length and time', async () => {
    const [file = ''] = readdirSync(model).filter((name) => name.endsWith('.safetensors'));
    const weights = path.join(model, file);
    const time = new Date('2026-01-01T00:00:00Z');
    utimesSync(weights, time, time);
    const first = await split();
    const bytes = readFileSync(weights);
    bytes[bytes.length - 1] = bytes[bytes.length - 1]! ^ 1;
    writeFileSync(weights, bytes);
    utimesSync(weights, time, time);
    const second = await split();
    expect(second.reused).toBe(false);
    expect(second.manifest.name).not.toBe(first.manifest.name);
    utimesSync(weights, time, new Date(time.getTime() + 1000));
    expect((await split()).reused).toBe(false);
  });

  it.each<[string, (folder: string) => void]>([
    ['a weights file is cut short', (folder) => truncateSync(path.join(folder, 'rank-1.weights'), 100)],
    ['a graph is missing', (folder) => rmSync(path.join(folder, 'rank-0', 'head.onnx'))],
    ['the manifest is no JSON', (folder) => writeFileSync(path.join(folder, 'manifest.json'), '{')],
    ['the manifest is missing', (folder) => rmSync(path.join(folder, 'manifest.json'))],
    [
      'a file stands in their place',
      (folder) => {
        rmSync(folder, { recursive: true });
        writeFileSync(folder, 'no folder');
      },
    ],
  ])('are made again when %s', async (_, damage) => {
    const { shardFolder } = await split();
    damage(shardFolder);
    const again = await split();
    expect(again).toMatchObject({ shardFolder, reused: false });
    await verifyShards({ folder: model, shardFolder });
    expect(readdirSync(store)).toEqual([path.basename(shardFolder)]);
  });
});

describe('a run that does not end well leaves nothing', () => {
  const left = () => (existsSync(store) ? readdirSync(store) : []);

  it('when it is aborted', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const run = split({ signal: abort.signal, onProgress: () => abort.abort(reason) });
    await expect(run).rejects.toBe(reason);
    expect(left()).toEqual([]);
  });

  it('when the last tensor turns out to be no number', async () => {
    const tensors = toyTensors();
    tensors.at(-1)!.data.fill(0x7e); // NaN in every half
    writeToy(tensors);
    await expect(split({ dtype: 'int4' })).rejects.toThrow(
      'Tensor model.layers.1.mlp.down_proj.weight has NaN in row 0',
    );
    expect(left()).toEqual([]);
  });

  it('when the store cannot be made', async () => {
    writeFileSync(store, 'a file');
    await expect(split()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(split()).rejects.toThrow(`the shard store ${store} cannot be written`);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('when the program gets %s', async (signal) => {
    const child = await startLongRun();
    child.kill(signal);
    const [code] = await once(child, 'close');
    expect(code).toBe(signal === 'SIGTERM' ? 143 : 130);
    expect(left()).toEqual([]);
  });

  it('when nobody reads its standard output any more', async () => {
    const child = await startLongRun();
    child.stdout?.destroy();
    const [code] = await once(child, 'close');
    expect(code).toBe(1);
    expect(left()).toEqual([]);
  });

  it('when it is killed: the next run removes what it left, and only that', async () => {
    const child = await startLongRun();
    const other = await startLongRun();
    child.kill('SIGKILL');
    await once(child, 'close');
    expect(left().map((name) => name.slice(0, 9))).toEqual(['.partial-', '.partial-']);
    const { manifest } = await split();
    expect(left().filter((name) => name.startsWith('.partial-'))).toHaveLength(1);
    other.kill('SIGTERM');
    await once(other, 'close');
    expect(left()).toEqual([manifest.name]);
  });

  /** The program at work on a model that takes it some seconds. */
  async function startLongRun(): Promise<ChildProcess> {
    const args = ['--shape', 'tinyllama-1.1b', '--random-weights', '--tp', '2', '--dtype', 'int4', '--json'];
    const child = spawn(process.execPath, [PROGRAM, ...args, '--store', store], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: child.stdout! })) {
      if (JSON.parse(line).event === 'progress') break;
    }
    return child;
  }
});

describe('two runs at once', () => {
  it('end with the same whole shards', async () => {
    const results = await Promise.all([split(), split(), split()]);
    expect(new Set(results.map(({ shardFolder }) => shardFolder)).size).toBe(1);
    expect(readdirSync(store)).toEqual([results[0].manifest.name]);
    await verifyShards({ folder: model, shardFolder: results[0].shardFolder });
  });
});

describe('a checkpoint that does not fit its config.json', () => {
  it.each<[string, (tensors: WrittenTensor[]) => WrittenTensor[], string]>([
    [
      'a tensor is missing',
      (tensors) => tensors.filter(({ name }) => !name.endsWith('1.mlp.down_proj.weight')),
      'Tensor model.layers.1.mlp.down_proj.weight is missing',
    ],
    [
      'a tensor has another shape',
      (tensors) =>
        tensors.map((tensor) =>
          tensor.name === 'model.norm.weight' ? { ...tensor, shape: [32, 2] } : tensor,
        ),
      'Tensor model.norm.weight has shape [32, 2], config.json asks for [64]',
    ],
    [
      'a tensor is of a type that is not read',
      (tensors) =>
        tensors.map((tensor) => (tensor.name === 'model.norm.weight' ? { ...tensor, dtype: 'I16' } : tensor)),
      'Tensor model.norm.weight is of type I16',
    ],
    [
      'a bias that config.json does not know',
      (tensors) => [...tensors, half('model.layers.0.self_attn.q_proj.bias', [64])],
      'Tensor model.layers.0.self_attn.q_proj.bias has no place in LlamaForCausalLM',
    ],
  ])('%s', async (_, change, message) => {
    writeToy(change(toyTensors()));
    await expect(split()).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(split()).rejects.toThrow(message);
    expect(existsSync(store)).toBe(false);
  });

  it('old rotary frequencies and the second copy of a tied head are no reason', async () => {
    const extra = [
      half('model.layers.0.self_attn.rotary_emb.inv_freq', [4]),
      half('lm_head.weight', [131, 64]),
    ];
    writeToy([...toyTensors(), ...extra]);
    const { shardFolder } = await split();
    await verifyShards({ folder: model, shardFolder });
  });
});

function half(name: string, shape: number[]): WrittenTensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Array.from({ length: count }, (_, index) => 0x2c00 + (index % 1000));
  return { name, dtype: 'F16', shape, data: halfBytes(values) };
}

function toyTensors(): WrittenTensor[] {
  const layer = (index: number) => {
    const name = (role: string) => `model.layers.${index}.${role}.weight`;
    return [
      half(name('input_layernorm'), [64]),
      half(name('self_attn.q_proj'), [64, 64]),
      half(name('self_attn.k_proj'), [32, 64]),
      half(name('self_attn.v_proj'), [32, 64]),
      half(name('self_attn.o_proj'), [64, 64]),
      half(name('post_attention_layernorm'), [64]),
      half(name('mlp.gate_proj'), [112, 64]),
      half(name('mlp.up_proj'), [112, 64]),
      half(name('mlp.down_proj'), [64, 112]),
    ];
  };
  return [
    half('model.embed_tokens.weight', [131, 64]),
    ...layer(0),
    half('model.norm.weight', [64]),
    ...layer(1),
  ];
}

/** The model folder becomes a toy in one file. */
function writeToy(tensors: readonly WrittenTensor[]): void {
  rmSync(model, { recursive: true });
  mkdirSync(model);
  writeFileSync(path.join(model, 'config.json'), JSON.stringify(TOY_CONFIG));
  writeFileSync(path.join(model, 'model.safetensors'), safetensorsBytes(tensors));
}
