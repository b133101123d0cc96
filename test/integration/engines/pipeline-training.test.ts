/** The training side of a pipeline pack: what `shardserve pipeline serve-stdio` answers is what the served pack answers, to the byte; chance by its seed; threads. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Feeds,
  file,
  image,
  load,
  PipelinePool,
  script,
  Tensor,
  type Traced,
  tensor,
  text,
  trace,
  type Value,
} from '../../../pipeline/pipeline-api.js';
import { type Frame, frameOf, framesIn, npyOf, tensorOfNpy } from '../../../pipeline/value-frame.js';
import { HandlerEngine } from '../../../server/engines/handlers/handler-engine.js';
import { WorkLoadManager } from '../../../server/work-load-manager/work-load-manager.js';
import { LogRecorder } from '../../fixtures/log-recorder.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';
import { FAKE_CONFIG } from '../../support/fake-model.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';
import { repositoryRoot } from '../../support/repository-root.js';

const TEXTS = 1000;
const IMAGES = 200;
const random = seededRandom(testSeed);
const WORDS = ['hello', 'world', 'ein', 'Ünïcode', '日本', 'no', 'such', 'word', 'ẞ'];

const someText = (): string =>
  Array.from({ length: random.integer(1, 12) }, () => random.pick(WORDS)).join(
    random.pick([' ', '  ', '\u00a0']),
  );

/** A picture of noise. */
async function somePicture(): Promise<Uint8Array> {
  const [width, height] = [random.integer(20, 48), random.integer(20, 48)];
  const data = Buffer.from(Array.from({ length: width * height * 3 }, () => random.integer(0, 255)));
  return new Uint8Array(
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer(),
  );
}

describe(`a pack in training (TEST_SEED=${testSeed})`, () => {
  const root = mkdtempSync(path.join(tmpdir(), 'shardserve-training-'));
  const pack = path.join(root, 'both');
  let child: ChildProcess;
  let answers: AsyncGenerator<Frame>;
  let manager: WorkLoadManager;
  let http: TestServer;

  beforeAll(async () => {
    writeFileSync(
      path.join(root, 'words.txt'),
      `${WORDS.map((word) => word.toLowerCase()).join('\n')}\n[UNK]\n`,
    );
    const [lower, cut, ids, pad] = [
      text.lower(),
      text.split(),
      text.vocabulary(file(path.join(root, 'words.txt'))),
      tensor.pad(16, 9),
    ];
    const [decode, resize, crop, flip, planes] = [
      image.decode(),
      image.resize(24),
      image.randomCrop(20),
      image.randomFlip(),
      image.planes(),
    ];
    const wrap = script((one: unknown) => [one]);
    const traced = await trace(
      (words: Traced, picture: Traced) => ({
        ids: pad(wrap(ids(cut(lower(words))))),
        pixels: planes(flip(crop(resize(decode(picture))))),
      }),
      { words: 'Hello  World', picture: await somePicture() },
    );
    await traced.save(pack);
    child = spawn(
      process.execPath,
      ['server/shardserve.mjs', 'pipeline', 'serve-stdio', pack, '--threads', '2'],
      { cwd: repositoryRoot, stdio: ['pipe', 'pipe', 'inherit'] },
    );
    answers = framesIn(child.stdout!);
    manager = new WorkLoadManager({ engineOf: () => new HandlerEngine(), logger: new LogRecorder().logger });
    http = await startServer({ maxRequestBytes: 1024 * 1024 }, null, {
      service: manager,
      management: manager,
    });
    await manager.load({
      ...{ ...FAKE_CONFIG, name: 'both', folder: pack, engine: 'handler', entryPoint: 'builtin:pipeline' },
      ...{ batchSize: 8, maxBatchDelayMs: 1, jobQueueSize: 100, modelLoadingTimeoutSeconds: 120 },
    });
  });
  afterAll(async () => {
    child.stdin!.end();
    await once(child, 'exit');
    await manager.close();
    await http.server.close();
    rmSync(root, { recursive: true, force: true });
  });

  const asked = async (frames: readonly Frame[]): Promise<Frame[]> => {
    const got: Frame[] = [];
    const reading = (async () => {
      while (got.length < frames.length) got.push((await answers.next()).value as Frame);
    })();
    for (const frame of frames) if (!child.stdin!.write(frameOf(frame))) await once(child.stdin!, 'drain');
    await reading;
    return got;
  };
  type Both = { ids: Tensor; pixels: Tensor };

  it(`gives a training loop the tensors that serving computes, on ${TEXTS} texts and ${IMAGES} images`, async () => {
    const pictures = await Promise.all(Array.from({ length: IMAGES }, somePicture));
    const feeds = Array.from({ length: TEXTS }, (_, at): { words: string; picture: Uint8Array } => ({
      words: someText(),
      picture: pictures[at % IMAGES]!,
    }));
    const training = (await asked(feeds.map((one) => ({ feeds: one })))).map(
      ({ output }) => output as unknown as Both,
    );
    const served: { ids: number[][]; pixels: number[][][] }[] = [];
    let next = 0;
    const client = async (): Promise<void> => {
      for (let at = next++; at < feeds.length; at = next++) {
        const form = new FormData();
        form.set('words', feeds[at]!.words);
        form.set('picture', new Blob([new Uint8Array(feeds[at]!.picture)], { type: 'image/png' }), 'a.png');
        const response = await fetch(`${http.url}/predictions/both`, { method: 'POST', body: form });
        served[at] = (await response.json()) as (typeof served)[0];
      }
    };
    await Promise.all(Array.from({ length: 8 }, client));
    const unequal = training.filter(({ ids, pixels }, at) => {
      const floats = new Float32Array(served[at]!.pixels.flat(2));
      const whole = BigInt64Array.from(served[at]!.ids.flat(), BigInt);
      const isSame = (a: Tensor, b: Float32Array | BigInt64Array) =>
        Buffer.compare(
          Buffer.from(a.data.buffer, a.data.byteOffset, a.data.byteLength),
          Buffer.from(b.buffer),
        ) === 0;
      return !isSame(pixels, floats) || !isSame(ids, whole);
    });
    expect([training.length, unequal.length]).toEqual([TEXTS, 0]);
  });

  it('leaves to chance in training what it does not in serving, by the seed', async () => {
    const feeds = { words: 'hello', picture: await somePicture() };
    const frames = [
      { feeds, mode: 'train', seed: 1 },
      { feeds, mode: 'train', seed: 1 },
      ...Array.from({ length: 8 }, (_, at) => ({ feeds, mode: 'train', seed: 2 + at })),
      { feeds, mode: 'eval', seed: 1 },
      { feeds },
    ] as const;
    const pixels = (await asked(frames)).map(({ output }) =>
      Buffer.from(npyOf((output as unknown as Both).pixels)).toString('base64'),
    );
    expect(pixels[0]).toBe(pixels[1]);
    expect(new Set(pixels.slice(0, 10)).size).toBeGreaterThan(4);
    expect(pixels.at(-1)).toBe(pixels.at(-2));
    const loaded = await load(pack);
    const own = (await loaded.run(feeds, { mode: 'train', seed: 1 })) as unknown as Both;
    expect(npyOf(own.pixels).toString('base64')).toBe(pixels[0]);
  });

  it('tells a bad example in its place, and goes on', async () => {
    const good = { words: 'hello', picture: await somePicture() };
    const [first, second, third] = await asked([
      { feeds: { words: 7, picture: good.picture } },
      { feeds: { words: 'x', picture: new Uint8Array([1, 2, 3]) } },
      { feeds: good },
    ]);
    expect(first).toEqual({ error: 'text.lower takes texts, not a number' });
    expect(second).toEqual({ error: expect.stringMatching(/The image cannot be read/) });
    expect((third!.output as unknown as Both).ids.shape).toEqual([1, 16]);
  });

  it('on threads answers as without, in order', async () => {
    const [pool, alone] = [await PipelinePool.open(pack, { threads: 2 }), await load(pack)];
    const picture = await somePicture();
    const items: Feeds[] = Array.from({ length: 150 }, () => ({ words: someText(), picture }));
    const many = (await pool.map(items)) as unknown as Both[];
    for (const [at, item] of items.entries()) {
      const one = (await alone.run(item)) as unknown as Both;
      expect([many[at]!.ids.data, many[at]!.pixels.data]).toEqual([one.ids.data, one.pixels.data]);
    }
    await expect(pool.map([items[0]!, { words: 1, picture } as Feeds])).rejects.toThrow(
      'Item 1: text.lower takes texts, not a number',
    );
    await pool.close();
    await expect(PipelinePool.open(path.join(root, 'absent'))).rejects.toThrow(
      /there is no model\.spec\.json/,
    );
  });

  it('is told on the command line what it holds', async () => {
    const show = spawn(process.execPath, ['server/shardserve.mjs', 'pipeline', 'show', pack], {
      ...{ cwd: repositoryRoot, stdio: ['ignore', 'pipe', 'inherit'] },
    });
    let told = '';
    for await (const piece of show.stdout) told += String(piece);
    expect(told).toMatch(/^feeds: words, picture\n[\s\S]*image\.random-crop@1/);
  });
});

describe('frames', () => {
  it('keep every kind of value, however the stream is cut', async () => {
    const value: Value = {
      text: 'ẞ\n',
      list: [1, 2.5, null, true, [Number.NaN, Number.POSITIVE_INFINITY]],
      bytes: new Uint8Array([0, 255]),
      tensors: [
        new Tensor('float32', [2, 1], Float32Array.from([1.5, -0])),
        new Tensor('int64', [1], BigInt64Array.from([-1n])),
        new Tensor('bool', [], Uint8Array.from([1])),
        new Tensor('float64', [0, 3], new Float64Array(0)),
      ],
    };
    const whole = Buffer.concat([frameOf({ value }), frameOf({}), frameOf({ value })]);
    const pieces = async function* () {
      for (let at = 0; at < whole.length; ) {
        const length = random.integer(1, 40);
        yield whole.subarray(at, at + length);
        at += length;
      }
    };
    const got: Frame[] = [];
    for await (const frame of framesIn(pieces())) got.push(frame);
    expect(got).toEqual([{ value }, {}, { value }]);
  });

  it('read the arrays that NumPy wrote, and refuse what is none', async () => {
    const file = readFileSync(path.join(repositoryRoot, 'test/golden/onnx-models/turned.npy'));
    const isFortran = file.toString('latin1', 0, 100).includes("'fortran_order': True");
    if (isFortran) expect(() => tensorOfNpy(file)).toThrow(/Fortran/);
    else expect(npyOf(tensorOfNpy(file))).toEqual(file);
    const read = async (bytes: Buffer) => {
      for await (const _ of framesIn(
        (async function* () {
          yield bytes;
        })(),
      )) {
        // Only whether it can be read is asked.
      }
    };
    const long = Buffer.alloc(4);
    long.writeUInt32LE(2 ** 31);
    await expect(read(long)).rejects.toThrow(/a frame's JSON has 2147483648 bytes, of at most/);
    await expect(read(Buffer.from([9, 0, 0, 0, 1]))).rejects.toThrow(/ends within a frame/);
    await expect(
      read(Buffer.concat([Buffer.from([15, 0, 0, 0]), Buffer.from('{"blocks":[-1]}')])),
    ).rejects.toThrow(/blocks of a frame must be lengths/);
  });
});
