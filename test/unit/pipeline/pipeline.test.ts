/** pipeline/: one pipeline traced, saved, loaded and run; what a pack refuses. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { SPEC_FILE } from '../../../pipeline/pack.js';
import {
  file,
  image,
  load,
  model,
  script,
  Tensor,
  type Traced,
  tensor,
  text,
  trace,
} from '../../../pipeline/pipeline-api.js';
import { repositoryRoot } from '../../support/repository-root.js';

const scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-pipeline-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const folder = (name: string): string => path.join(scratch, name);

/** MATXScript's own first example. */
class Text2Ids {
  readonly table = new Map([
    ['hello', 0],
    ['world', 1],
    ['[UNK]', 2],
  ]);
  lookup(word: string): number {
    return this.table.get(word) ?? 2;
  }
  call(words: readonly string[]): number[] {
    return words.map((word) => this.lookup(word));
  }
}

describe('Text2Ids', () => {
  const words = 'hello world unknown'.split(' ');

  it('gives [0, 1, 2] traced, and again when it was saved and loaded', async () => {
    const text2ids = script(Text2Ids)();
    const process = (texts: Traced): Traced => text2ids(texts);
    const traced = await trace(process, { texts: words });
    expect(await traced.run({ texts: words })).toEqual([0, 1, 2]);
    await traced.save(folder('text2ids'));
    const loaded = await load(folder('text2ids'), -1);
    expect(await loaded.run({ texts: words })).toEqual([0, 1, 2]);
    expect(await loaded.run({ texts: ['world', 'world'] })).toEqual([1, 1]);
    await expect(loaded.run({ words })).rejects.toThrow('Feed texts is missing; the pipeline takes texts');
    await expect(loaded.run({ texts: words, more: 1 })).rejects.toThrow('There is no feed more');
    await expect(traced.save(folder('text2ids'))).rejects.toThrow('is there already');
  });
});

describe('a pipeline of text and a model', () => {
  /** Its own copy: the pack must not need it. */
  const vocabulary = folder('vocabulary.txt');
  const onnx = folder('bert.onnx');
  const texts = ['A cat sat.', 'ΟΔΟΣ, İstanbul! 我 爱 你'];

  async function traced() {
    writeFileSync(
      vocabulary,
      `${['[PAD]', '[UNK]', 'a', 'cat', 'sat', '.', ',', '!', '我', '爱', '你'].join('\n')}\n`,
    );
    cpSync(path.join(repositoryRoot, 'test/golden/onnx-models/bert.onnx'), onnx);
    const lower = text.lower();
    const cut = text.words();
    const ids = text.vocabulary(file(vocabulary));
    const pad = tensor.pad();
    const mask = tensor.mask();
    const zeros = tensor.zerosLike();
    const bert = model.onnx(file(onnx));
    const pooled = script((answers: { pooled: Tensor }) => answers.pooled);
    return trace(
      (given) => {
        const lists = ids(cut(lower(given!)));
        const padded = pad(lists);
        return { ids: padded, pooled: pooled(bert(padded, mask(lists), zeros(padded))) };
      },
      [{ given: texts }, { given: ['cat'] }],
    );
  }

  it('needs nothing but its pack, and profiles', async () => {
    const made = await traced();
    await made.save(folder('bert'));
    rmSync(vocabulary);
    rmSync(onnx);
    const loaded = await load(folder('bert'));
    const { output, traceEvents } = await loaded.profile({ given: texts });
    const { ids, pooled } = output as unknown as { ids: Tensor; pooled: Tensor };
    expect(ids.toList()).toEqual([
      [2, 3, 4, 5, 0, 0, 0],
      [1, 6, 1, 7, 8, 9, 10],
    ]);
    expect(pooled.shape).toEqual([2, 32]);
    expect(traceEvents.map(({ name }) => name)).toContain('6 model.onnx@1');
    const again = (await made.run({ given: texts })) as unknown as { pooled: Tensor };
    expect(again.pooled.data).toEqual(pooled.data);
  });

  it.each([
    [
      'an asset that was changed',
      (at: string) => edit(at, /assets\/\w+-vocabulary\.txt/, (file) => `${file}x`),
      /vocabulary\.txt is not the file that was packed/,
    ],
    [
      'a golden that was changed',
      (at: string) => writeFileSync(path.join(at, 'goldens.json'), '[]'),
      /goldens\.json is not the file that was packed/,
    ],
    [
      'an operator that is not known',
      (at: string) => spec(at, (text) => text.replace('text.lower@1', 'text.lower@9')),
      /no operator text\.lower@9/,
    ],
    [
      'another operator',
      (at: string) => spec(at, (text) => text.replace('text.lower@1', 'text.strip@1')),
      /example 0 gives .* here and .* where it was traced \(Node /,
    ],
    [
      'a file outside',
      (at: string) => spec(at, (text) => text.replace(/assets\/\w+-bert\.onnx/, '../bert.onnx')),
      /\.\.\/bert\.onnx is no file of a pack/,
    ],
    [
      'a circle',
      (at: string) => spec(at, (text) => text.replace(/"node": 0/, '"node": 5')),
      /takes the answer of node 5, which comes after it/,
    ],
  ])('is refused with %s', async (what, change, words) => {
    const at = folder(`bert-${what.replaceAll(' ', '-')}`);
    await (await traced()).save(at);
    change(at);
    await expect(load(at)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(words),
    });
  });

  const spec = (at: string, change: (text: string) => string): void => {
    const specFile = path.join(at, SPEC_FILE);
    writeFileSync(specFile, change(readFileSync(specFile, 'utf8')));
  };
  const edit = (at: string, name: RegExp, change: (text: string) => string): void => {
    const asset = path.join(at, name.exec(readFileSync(path.join(at, SPEC_FILE), 'utf8'))![0]);
    writeFileSync(asset, change(readFileSync(asset, 'utf8')));
  };
});

/** MATXScript's own example of several modes: texts for BERT, pictures for ResNet, in one pack. */
describe('Bert + Resnet', () => {
  const models = path.join(repositoryRoot, 'test/golden/handler-models');
  const casesOf = (name: string) =>
    JSON.parse(readFileSync(path.join(models, name, 'cases.json'), 'utf8')) as {
      text: string;
      image: string;
      answer: unknown;
    }[];

  it('takes eight of both, is one pack, and answers as Python does with PIL', async () => {
    const tokenise = text.tokenizer(file(path.join(models, 'text_classifier/tokenizer.json')));
    const pad = tensor.pad();
    const mask = tensor.mask();
    const topics = model.onnx(file(path.join(models, 'text_classifier/model.onnx')));
    const decode = image.decode();
    const resize = image.resize(32);
    const crop = image.centreCrop(28);
    const planes = image.planes();
    const stack = image.stack();
    const segments = model.onnx(file(path.join(models, 'image_segmenter/model.onnx')));
    const topic = tensor.softmax();
    const parts = script((logits: Tensor) => {
      const [count = 0, , height = 0, width = 0] = logits.shape;
      const plane = height * width;
      return Array.from({ length: count }, (_, at) =>
        Array.from({ length: plane }, (_one, pixel) => {
          const [a, b] = [0, 1].map((one) => Number(logits.data[(at * 2 + one) * plane + pixel]));
          return 1 / (1 + Math.exp(-Math.abs(b! - a!)));
        }),
      );
    });
    const texts = casesOf('text_classifier');
    const images = casesOf('image_segmenter');
    const eight = Array.from({ length: 8 }, (_, index) => index);
    const feeds = {
      texts: eight.map((index) => texts[index % texts.length]!.text),
      images: eight.map(
        (index) => new Uint8Array(Buffer.from(images[index % images.length]!.image, 'base64')),
      ),
    };
    const traced = await trace((texts, images) => {
      const ids = tokenise(texts!);
      const pixels = stack(planes(crop(resize(decode(images!)))));
      return { topics: topic(topics(pad(ids), mask(ids))), parts: parts(segments(pixels)) };
    }, feeds);
    await traced.save(folder('both'));
    const answer = (await (await load(folder('both'))).run(feeds)) as { topics: Tensor; parts: number[][] };
    const rows = answer.topics.toList() as number[][];
    eight.forEach((index) => {
      const wanted = Object.values(texts[index % texts.length]!.answer as Record<string, number>);
      rows[index]!.forEach((chance, at) => {
        expect(chance).toBeCloseTo(wanted[at]!, 5);
      });
      const chances = (images[index % images.length]!.answer as [number, number][][])
        .flat()
        .map(([, one]) => one);
      const worst = Math.max(...chances.map((one, at) => Math.abs(one - answer.parts[index]![at]!)));
      expect(worst).toBeLessThan(0.02);
    });
  });
});

describe('tracing', () => {
  const upper = script((one: string) => one.toUpperCase());

  it('tells a look into a value, a closure, and an answer that is none', async () => {
    await expect(
      trace((texts) => upper((texts as unknown as string[])[0]!), { texts: ['a'] }),
    ).rejects.toThrow('.0 of a traced value');
    const secret = 'outside';
    const closes = script((one: string) => one + secret);
    await expect(trace((texts) => closes(texts!), { texts: 'a' })).rejects.toThrow('secret is not defined');
    await expect(trace((() => 'plain') as never, {})).rejects.toThrow('must return what an operator gave it');
    await expect(trace((({ a }: { a: Traced }) => upper(a)) as never, {})).rejects.toThrow('plain names');
    expect(() => upper('a')).toThrow('use run() outside of trace()');
    expect(await upper.run('a')).toBe('A');
  });

  it('freezes constants and keeps the branch that was taken', async () => {
    const join = script((a: string, b: string, times: number) => (a + b).repeat(times));
    const pipeline = await trace((a, b) => join(a!, b!, 2), { a: 'x', b: 'y' });
    expect(await pipeline.run({ a: '1', b: '2' })).toBe('1212');
  });

  it('names the operator that failed', async () => {
    const parse = script((one: string) => JSON.parse(one));
    const pipeline = await trace((json) => parse(json!), { json: '1' });
    await expect(pipeline.run({ json: '{' })).rejects.toThrow(/^Operator 0 \(script@1\) failed: /);
  });
});

describe('operators', () => {
  const run = async (op: { run(...args: never[]): Promise<unknown> }, ...args: unknown[]) =>
    op.run(...(args as never[]));

  it('cut texts as Unicode has them', async () => {
    expect(await run(text.split(), ' a\u00a0b\u3000c ')).toEqual(['a', 'b', 'c']);
    expect(await run(text.split(','), [['a,b'], ['']])).toEqual([[['a', 'b']], [['']]]);
    expect(await run(text.normalise('NFKC'), 'ﬁ①')).toBe('fi1');
    expect(await run(text.decode(), new TextEncoder().encode('é'))).toBe('é');
    await expect(run(text.decode(), Uint8Array.of(0xff))).rejects.toThrow();
    await expect(run(text.lower(), [1])).rejects.toThrow('text.lower takes texts, not a number');
  });

  it('tokenise as the product’s tokenizers do', async () => {
    const tokenizer = text.tokenizer(
      file(path.join(repositoryRoot, 'models/embedded/tokenizer.json')),
      false,
    );
    const [one, two] = (await run(tokenizer, ['Once upon a time', 'Once'])) as number[][];
    expect(one!.slice(0, two!.length)).toEqual(two);
  });

  it('make tensors', async () => {
    expect(((await run(tensor.pad(3, 9), [[1], [2, 3]])) as Tensor).toList()).toEqual([
      [1, 9, 9],
      [2, 3, 9],
    ]);
    expect(((await run(tensor.mask(), [[1], [2, 3]])) as Tensor).toList()).toEqual([
      [1, 0],
      [1, 1],
    ]);
    await expect(run(tensor.pad(1), [[1, 2]])).rejects.toThrow('a list has 2 ids, of at most 1');
    const floats = (await run(tensor.floats(), [
      [1, 2, 4],
      [9, 0, 0],
    ])) as Tensor;
    expect(await run(tensor.argmax(), floats)).toEqual([2, 0]);
    const chances = (await run(tensor.softmax(), floats)) as Tensor;
    expect((chances.toList() as number[][]).map((row) => row.reduce((sum, one) => sum + one))).toEqual([
      expect.closeTo(1, 6),
      expect.closeTo(1, 6),
    ]);
    const flipped = (await run(
      image.flip(),
      new Tensor('uint8', [1, 2, 3], Uint8Array.of(1, 2, 3, 4, 5, 6)),
    )) as Tensor;
    expect([...flipped.data]).toEqual([4, 5, 6, 1, 2, 3]);
    await expect(run(image.decode(), Uint8Array.of(1, 2))).rejects.toThrow('The image cannot be read');
    const line = new Tensor('uint8', [1, 60_000, 3], new Uint8Array(180_000));
    await expect(run(image.resize(224), line)).rejects.toThrow(/has 3010560000 pixels then, of at most/);
    await expect(run(image.centreCrop(9), flipped)).rejects.toThrow('smaller than the crop');
    await expect(run(tensor.floats(), [[1], [2, 3]])).rejects.toThrow('the same length');
    expect(() => new Tensor('float32', [2, 2], new Float32Array(3))).toThrow('has 4 elements, not 3');
  });
});
