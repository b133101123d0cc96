/** What happens to a model before its workers start: the real partitioner as a child, the tokenizer's process. */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import type { ModelConfig } from '../../../server/config/config.js';
import { loadConfig } from '../../../server/config/load-config.js';
import { LlmModel } from '../../../server/engines/llm/llm-engine.js';
import { sizesOfManifest, sizesOfPlan } from '../../../server/engines/llm/model-sizes.js';
import { checkModel, type LlmFiles, prepareModel } from '../../../server/engines/llm/prepare-model.js';
import { LocalLauncher } from '../../../server/machine/ranks/local-launcher.js';
import {
  ensureShards,
  planThenShards,
  type ShardRequest,
} from '../../../server/model-store/ensure-shards.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { repositoryRoot } from '../../support/repository-root.js';

const PARTITIONER = fileURLToPath(new URL('../../../partitioner/main.js', import.meta.url));
const modelFolder = path.join(repositoryRoot, 'models', 'embedded');
const scratch = mkdtempSync(path.join(tmpdir(), 'prepare-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const request = (
  partition: Partial<ShardRequest['partition']> = {},
  more: Partial<Omit<ShardRequest, 'partition'>> = {},
): ShardRequest => ({
  program: PARTITIONER,
  partition: { folder: modelFolder, store: path.join(scratch, 'store'), tp: 2, dtype: 'auto', ...partition },
  ...more,
});

/** A program in the partitioner's place. */
function fakePartitioner(name: string, source: string): string {
  const file = path.join(scratch, `${name}.mjs`);
  writeFileSync(file, source);
  return file;
}

describe('ensuring shards', () => {
  it('makes them once, with progress, and finds them the second time', async () => {
    const progress: [number, number][] = [];
    const onProgress = (done: number, total: number) => progress.push([done, total]);
    const first = await ensureShards(request({}, { onProgress }));
    expect(first).toMatchObject({
      reused: false,
      manifest: { worldSize: 2, weightFormat: { dtype: 'fp32' } },
    });
    const [done, total] = progress.at(-1)!;
    expect([done > 0, done]).toEqual([true, total]);
    const second = await ensureShards(request());
    expect(second).toEqual({ ...first, reused: true });
  });

  it.each(['fp32', 'int4'] as const)(
    'is planned with the very sizes that its manifest has (%s)',
    async (dtype) => {
      let calibrations = 0;
      const onCalibration = (): void => void calibrations++;
      const { plan, write } = await planThenShards(request({ dtype }, { onCalibration }));
      const { manifest } = await write();
      expect(sizesOfPlan(plan)).toEqual(sizesOfManifest(manifest));
      expect(calibrations).toBe(dtype === 'int4' && kernelLibrary() !== null ? 1 : 0);
    },
  );

  it('passes the format on', async () => {
    const { manifest } = await ensureShards(
      request({
        dtype: 'int4',
        blockSize: 32,
        symmetric: false,
        scales: 'nearest',
        eightBit: ['down', 'head'],
        reproducibleDegree: 2,
        activationBits: 8,
        tp: 1,
      }),
    );
    expect(manifest.weightFormat).toEqual({
      dtype: 'int4',
      blockSize: 32,
      symmetric: false,
      scales: 'nearest',
      eightBit: ['head', 'down'],
      reproducibleDegree: 2,
      activationBits: 8,
      layout: kernelLibrary() === null ? 'blocks' : 'panels',
    });
  });

  it("passes the partitioner's error on by its code", async () => {
    await expect(ensureShards(request({ tp: 9 }))).rejects.toMatchObject({
      name: 'ServingError',
      code: 'TENSOR_PARALLEL_INVALID',
      message: expect.stringContaining('degrees that work: 1, 2, 3'),
    });
    await expect(ensureShards(request({ folder: scratch }))).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
    });
  });

  it('reports a partitioner that ends without a word, with the end of what it said', async () => {
    const program = fakePartitioner(
      'silent',
      'console.log("no event"); console.error("out of luck"); process.exit(5)',
    );
    await expect(ensureShards(request({}, { program }))).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringMatching(/code 5.*out of luck/),
    });
  });

  it('ends the partitioner when it is told to, and nothing half-written stays', async () => {
    const abort = new AbortController();
    const store = path.join(scratch, 'aborted');
    const waiting = ensureShards(
      request({ store }, { signal: abort.signal, onProgress: () => abort.abort() }),
    );
    await expect(waiting).rejects.toThrow();
    expect(readdirSync(store).filter((name) => !name.startsWith('.'))).toEqual([]);
  });
});

describe('a prepared model', () => {
  const prepared: LlmFiles[] = [];
  afterEach(async () => {
    for (const model of prepared.splice(0)) await model.encoder.close();
  });

  const [config] = loadConfig({ argv: [], env: {}, cwd: repositoryRoot }).models;
  const tools = (shardStore = path.join(scratch, 'store')) => ({
    shardStore,
    partitionerProgram: PARTITIONER,
    signal: new AbortController().signal,
  });

  async function prepare(fields: Partial<ModelConfig> = {}, shardStore?: string): Promise<LlmFiles> {
    const model = await prepareModel(
      { ...config!, ...fields },
      { ...tools(shardStore), onPlan: () => {}, onProgress: () => {} },
    );
    prepared.push(model);
    return model;
  }

  it('has the same ids of a long text, made in a process, as of the tokenizer itself', async () => {
    const model = await prepare();
    const tokenizer = await Tokenizer.load(modelFolder);
    const texts = [
      'Once upon a time there was a king. '.repeat(400),
      'Es war einmal ein König. '.repeat(500),
    ];
    const encoded = await Promise.all(texts.map((text) => model.encoder.encode({ kind: 'text', text })));
    expect(encoded).toEqual(texts.map((text) => tokenizer.encode(text)));
  });

  it('says what it was taken for, and what was assumed of a model that nobody knows', async () => {
    const [config] = loadConfig({ argv: [], env: {}, cwd: repositoryRoot }).models;
    const worker = { launcher: new LocalLauncher('') };
    const known = new LlmModel(config!, await prepare(), worker);
    expect(known.takenFor).toBe('LlamaForCausalLM: a known family, computed as transformers does');
    expect(known.notes.filter((note) => note.includes('assumed'))).toEqual([]);
    const long = new LlmModel({ ...config!, maxModelLen: 100_000 }, await prepare(), worker);
    expect(long.notes.filter((note) => !known.notes.includes(note))).toEqual([
      'option.max_model_len is 100000, but the model has 512 positions: so many are served',
    ]);
    const folder = path.join(scratch, 'unheard-of');
    cpSync(modelFolder, folder, { recursive: true });
    const file = path.join(folder, 'config.json');
    const raw = JSON.parse(readFileSync(file, 'utf8')) as object;
    chmodSync(file, 0o600);
    const named = { architectures: ['UnheardOfForCausalLM'], model_type: 'unheard_of' };
    writeFileSync(file, JSON.stringify({ ...raw, ...named }));
    const guessed = new LlmModel(config!, await prepare({ folder }), worker);
    expect(guessed.takenFor).toMatch(/^UnheardOfForCausalLM: no known family: recognised by/);
    expect(guessed.notes[0]).toMatch(/assumed of its mathematics.*rotated in halves.*injection_policy\.json/);
  });

  it('is refused another task than its own, before anything is written', async () => {
    const folder = path.join(repositoryRoot, 'test', 'golden', 'encoder-roberta');
    await expect(prepare({ task: 'text-embedding' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(
        'is text-embedding, but its checkpoint is a model for text-generation',
      ),
    });
    await expect(prepare({ folder, task: 'text-generation' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
    const { manifest } = await prepare({ folder, task: 'text-embedding' });
    expect(manifest.model.embedding).toMatchObject({ dimensions: 64, textTokens: 64, normalised: true });
  });

  it('that brings its vectors to length 1 cannot be asked not to, which is told before anything is written', async () => {
    const folder = path.join(repositoryRoot, 'test', 'golden', 'encoder-roberta');
    const refusal = expect.objectContaining({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(
        /^option\.normalize of .* is false, but its modules\.json brings vectors to length 1$/,
      ),
    });
    const asked = { folder, normalize: false };
    const store = path.join(scratch, 'nothing-written');
    await expect(checkModel({ ...config!, ...asked }, tools(store))).rejects.toEqual(refusal);
    await expect(prepare(asked, store)).rejects.toEqual(refusal);
    expect(existsSync(store) ? readdirSync(store) : []).toEqual([]);
    expect((await prepare({ folder, normalize: null })).manifest.model.embedding?.normalised).toBe(true);
  });

  it('fails what its process still held when it is closed', async () => {
    const model = await prepare();
    const encoding = model.encoder.encode({ kind: 'text', text: 'a king '.repeat(20_000) });
    const [ended] = await Promise.allSettled([encoding, model.encoder.close()]);
    expect(ended).toMatchObject({ status: 'rejected', reason: { code: 'SHUTTING_DOWN' } });
  });

  it('of degree max is split over as many ranks as there are cores and the model allows', async () => {
    const model = await prepare({ tensorParallelDegree: 'max' });
    expect([1, 2, 4, 8]).toContain(model.manifest.worldSize);
  });

  it.runIf(kernelLibrary() !== null).each([
    [{}, ['head', 'qkv']],
    [{ OPTION_QUANTIZE_8BIT: 'none' }, []],
    [{ OPTION_QUANTIZE_8BIT: 'down,qkv' }, ['qkv', 'down']],
  ])('leaves at 8 bits what is asked for: %j', async (env, groups) => {
    const [asked] = loadConfig({ argv: [], env, cwd: repositoryRoot }).models;
    const format = { dtype: 'int4', scales: 'nearest', eightBit: asked!.eightBit } as const;
    const { manifest } = await prepare({ ...format, tensorParallelDegree: 1 });
    expect(manifest.weightFormat.eightBit).toEqual(groups);
  });

  it('is refused before anything is split when it has no tokenizer', async () => {
    await expect(prepare({ folder: scratch })).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringContaining('tokenizer.json'),
    });
  });
});
