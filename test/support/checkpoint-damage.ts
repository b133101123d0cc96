/**
 * Whole checkpoints, and every way the fuzz tests damage one.
 *
 * In      a folder to write to, a seeded random number generator
 * Out     the folder with one file damaged, and that file's name
 *
 * A value that JSON.stringify cannot write (a key given twice, a hundred thousand brackets) is put in as text: `Raw`.
 */
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { INJECTION_POLICIES, renamed } from '../fixtures/injection-policies.js';
import type { SeededRandom } from '../fixtures/seeded-random.js';
import { goldenFolder } from './golden.js';
import { writeRenamedModel } from './renamed-model.js';
import { repositoryRoot } from './repository-root.js';
import {
  familyNames,
  readFamilyGolden,
  readSentencePieceGolden,
  sentencePieceNames,
} from './tokenizer-goldens.js';

type JsonRecord = Record<string, unknown>;

export interface DamageKind {
  name: string;
  /** @returns the file that was damaged, relative to the folder */
  damage(folder: string, random: SeededRandom): string;
}

/** Names that every object of JavaScript answers to. */
const INHERITED = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
const HUGE = [2 ** 24 + 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e308];
const WORDS = ['', '../../etc/passwd', '/etc/passwd', 'a\u0000b', '\ud800', '9'.repeat(400), ...INHERITED];
const VALUES: readonly unknown[] = [
  ...[
    -1,
    -0.5,
    0,
    1,
    1.5,
    3,
    1e-308,
    null,
    true,
    false,
    [],
    {},
    [[[[[]]]]],
    [null],
    ['a', 1],
    { a: 1 },
    { toString: 1, valueOf: 1 },
  ],
  ...HUGE,
  ...WORDS,
];
const DEPTHS = [300, 5000, 100_000];

/** Brackets without end, as JSON text. */
const nested = (random: SeededRandom): string => {
  const [open, close] = random.pick([
    ['[', ']'],
    ['{"a":', '}'],
    ['{"text_config":', '}'],
  ] as const);
  const depth = random.pick(DEPTHS);
  return open.repeat(depth) + (open === '[' ? '' : '1') + close.repeat(depth);
};

/** JSON text with pieces of text in it that JSON.stringify would not write. */
class Raw {
  readonly #pieces: string[] = [];

  put(text: string): string {
    return `@raw${this.#pieces.push(text) - 1}@`;
  }

  write(value: unknown): string {
    return JSON.stringify(value).replace(/"@raw(\d+)@"/g, (_, index: string) => this.#pieces[Number(index)]!);
  }
}

interface Place {
  holder: JsonRecord;
  key: string;
}

function placesOf(root: unknown): Place[] {
  const places: Place[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    // A few of a long list stand for all.
    for (const key of Object.keys(value).slice(0, 40)) {
      places.push({ holder: value as JsonRecord, key });
      visit((value as JsonRecord)[key]);
    }
  };
  visit(root);
  return places;
}

/** One value, anywhere in the tree, becomes another, goes, comes twice or is nested without end. */
function damageJson(text: string, random: SeededRandom): string {
  const root = JSON.parse(text) as unknown;
  const places = placesOf(root);
  const raw = new Raw();
  if (places.length === 0) return random.pick(['', '[]', 'null', nested(random)]);
  for (let changes = random.pick([1, 1, 1, 2, 4]); changes > 0; changes--) {
    const { holder, key } = random.pick(places);
    const kind = random.integer(0, 9);
    if (kind === 0) delete holder[key];
    else if (kind === 1) holder[key] = raw.put(nested(random));
    else if (kind === 2 && !Array.isArray(holder)) {
      holder[key] = raw.put(
        `${raw.write(holder[key] ?? null)},${JSON.stringify(key)}:${JSON.stringify(random.pick(VALUES))}`,
      );
    } else if (kind === 3 && !Array.isArray(holder)) {
      holder[random.pick(INHERITED.slice(1))] = random.pick(VALUES);
    } else if (kind === 4) holder[key] = random.pick(HUGE);
    else holder[key] = random.pick(VALUES);
  }
  return raw.write(root);
}

/** Flips bytes, cuts, or puts something before the text. */
function damageBytes(bytes: Buffer, random: SeededRandom): Buffer {
  switch (random.integer(0, 4)) {
    case 0:
      return bytes.subarray(0, random.integer(0, bytes.length));
    case 1:
      return Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes]);
    case 2:
      for (let flips = 0; flips < 20; flips++) {
        bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255);
      }
      return bytes;
    case 3:
      bytes[random.integer(0, Math.min(600, bytes.length - 1))]! ^= 1 << random.integer(0, 7);
      return bytes;
    default:
      return Buffer.from(random.pick(['', ' ', 'null', '[]', '{}', '"text"', nested(random)]));
  }
}

/** A JSON file, by value mostly. */
function damageJsonFile(folder: string, name: string, random: SeededRandom): string {
  const file = path.join(folder, name);
  if (random.next() < 0.85) writeFileSync(file, damageJson(readFileSync(file, 'utf8'), random));
  else writeFileSync(file, damageBytes(readFileSync(file), random));
  return name;
}

const jsonFile = (name: string, base: Base): DamageKind => ({
  name: `${name} of ${base}`,
  damage(folder, random) {
    writeCheckpoint(folder, base, random);
    return damageJsonFile(folder, name, random);
  },
});

type Header = Record<string, { dtype: unknown; shape: unknown; data_offsets: unknown }>;

/** What a header may say of one tensor, next to what it says of the others. */
const HEADER_LIES: readonly ((
  header: Header,
  name: string,
  other: string,
  raw: Raw,
  random: SeededRandom,
) => void)[] = [
  (header, name, other) => Object.assign(header[name]!, { data_offsets: header[other]!.data_offsets }),
  (header, name, _, __, random) => {
    const [start, end] = header[name]!.data_offsets as [number, number];
    const shift = random.pick([-1, 1, 4, -4, -(2 ** 31), 2 ** 31, 2 ** 52]);
    header[name]!.data_offsets = random.pick([
      [start + shift, end + shift],
      [start + shift, end],
      [start, end + shift],
      [end, start],
      [-start, -end],
    ]);
  },
  (header, name, _, __, random) => {
    const odd = () => random.pick<unknown>([...HUGE, -1, 0.5, '0', null, [], -0]);
    header[name]!.data_offsets = random.pick<unknown>([
      [odd(), odd()],
      [odd()],
      [0, odd()],
      odd(),
      [0, 0, 0],
    ]);
  },
  (header, name, _, raw, random) => {
    const number = random.pick([
      '18446744073709551615',
      '-9223372036854775808',
      '1e400',
      '-0',
      '1e2',
      '0x10',
    ]);
    header[name]!.data_offsets = [0, raw.put(number)];
  },
  (header, name, _, __, random) => {
    const size = () => random.pick<unknown>([...HUGE, 2 ** 27, 0, -1, 1.5, '8', null]);
    header[name]!.shape = random.pick<unknown>([
      [size(), size()],
      [2 ** 31, 2 ** 31],
      [2 ** 27, 2 ** 26],
      [0, size()],
      [2 ** 53 - 1, 2 ** 53 - 1, 0],
      Array.from({ length: random.pick([9, 100_000]) }, () => 1),
      size(),
      {},
    ]);
  },
  (header, name, _, raw, random) =>
    Object.assign(header[name]!, {
      [random.pick(['shape', 'dtype', 'data_offsets'])]: raw.put(nested(random)),
    }),
  (header, name, _, __, random) =>
    Object.assign(header[name]!, { dtype: random.pick([...VALUES, 'F64', 'I64', 'F4']) }),
  (header, name, _, raw, random) =>
    Object.assign(header, {
      [name]: raw.put(
        `${JSON.stringify(header[name])},${JSON.stringify(name)}:${JSON.stringify(random.pick(VALUES))}`,
      ),
    }),
  (header, name, _, __, random) => {
    const { [name]: entry } = header;
    delete header[name];
    header[random.pick([...WORDS, 'x'.repeat(100_000), `${name}\n`])] = entry!;
  },
  (header, _, __, raw, random) =>
    Object.assign(header, {
      __metadata__: random.pick<unknown>([
        raw.put(nested(random)),
        { format: 1 },
        [],
        'x',
        { a: 'x'.repeat(1e5) },
      ]),
    }),
  (header, name, _, __, random) => Object.assign(header, { [name]: random.pick(VALUES) }),
];

function damageHeader(folder: string, name: string, random: SeededRandom): string {
  const file = path.join(folder, name);
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, start).toString()) as Header;
  const names = Object.keys(header).filter((tensor) => tensor !== '__metadata__');
  const raw = new Raw();
  random.pick(HEADER_LIES)(header, random.pick(names), random.pick(names), raw, random);
  const text = Buffer.from(raw.write(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(
    random.next() < 0.05 ? 2n ** BigInt(random.integer(0, 63)) - 1n : BigInt(text.length),
  );
  writeFileSync(file, Buffer.concat([length, text, bytes.subarray(start)]));
  return name;
}

/** The index names a file that lies elsewhere, or a link that leads there. */
function leadOutside(folder: string, random: SeededRandom): string {
  const index = 'model.safetensors.index.json';
  const file = path.join(folder, index);
  const content = JSON.parse(readFileSync(file, 'utf8')) as { weight_map: Record<string, string> };
  const first = content.weight_map[Object.keys(content.weight_map)[0]!]!;
  const outside = path.join(folder, '..', 'outside.safetensors');
  cpSync(path.join(folder, first), outside);
  const link = (target: string): string => {
    rmSync(path.join(folder, first));
    symlinkSync(target, path.join(folder, first));
    return first;
  };
  const other = random.pick<() => string>([
    () => '../outside.safetensors',
    () => outside,
    () => `${path.basename(folder)}/../../outside.safetensors`,
    () => '..\\outside.safetensors',
    () => `%2e%2e/outside.safetensors`,
    () => `file://${outside}`,
    () => `${first}\u0000/../../outside.safetensors`,
    // What the hub's cache looks like: this one is a checkpoint like others.
    () => link('../outside.safetensors'),
    () => link('/dev/zero'),
    () => link('/proc/self/mem'),
    () => link('..'),
    () => link(first),
    () => link('nowhere'),
  ])();
  for (const [tensor, name] of Object.entries(content.weight_map)) {
    if (name === first) content.weight_map[tensor] = other;
  }
  writeFileSync(file, JSON.stringify(content));
  return other === first ? first : index;
}

/** One number of config.json, or several, as large as they come. */
function inflateConfig(folder: string, random: SeededRandom): string {
  const file = path.join(folder, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as JsonRecord;
  const numbers = placesOf(config).filter(({ holder, key }) => typeof holder[key] === 'number');
  const size = random.pick([2 ** 20, 2 ** 24, ...HUGE]);
  for (let changes = random.pick([1, 2, numbers.length]); changes > 0; changes--) {
    const { holder, key } = random.pick(numbers);
    // Its table of positions would be made, as large as it says.
    holder[key] = /position|length/.test(key) ? 2 ** 24 + 1 : size;
  }
  writeFileSync(file, JSON.stringify(config));
  return 'config.json';
}

/** A part of tokenizer.json that holds parts of its own kind, deeper than any stack. */
function nestTokenizer(folder: string, random: SeededRandom): string {
  const file = path.join(folder, 'tokenizer.json');
  const json = JSON.parse(readFileSync(file, 'utf8')) as JsonRecord;
  const [part, list] = random.pick([
    ['normalizer', 'normalizers'],
    ['pre_tokenizer', 'pretokenizers'],
    ['decoder', 'decoders'],
    ['post_processor', 'processors'],
  ] as const);
  const depth = random.pick([2, ...DEPTHS]);
  const raw = new Raw();
  const inner = JSON.stringify(json[part] ?? { type: 'ByteLevel' });
  json[part] = raw.put(`{"type":"Sequence","${list}":[`.repeat(depth) + inner + ']}'.repeat(depth));
  writeFileSync(file, raw.write(json));
  return 'tokenizer.json';
}

/** Parts that repeat, strip or replace: what a few of them do to a text grows with their number. */
function hostileTokenizer(folder: string, random: SeededRandom): string {
  const file = path.join(folder, 'tokenizer.json');
  const json = JSON.parse(readFileSync(file, 'utf8')) as JsonRecord;
  const model = json.model as JsonRecord;
  const double = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
  random.pick<() => void>([
    () => Object.assign(json, { decoder: { type: 'Strip', content: '', start: 1e15, stop: 0 } }),
    () =>
      Object.assign(json, {
        decoder: { type: 'Strip', content: random.pick(['', 'a']), start: 0, stop: 2 ** 53 },
      }),
    () => Object.assign(json, { normalizer: { type: 'Sequence', normalizers: Array(40).fill(double) } }),
    () => Object.assign(json, { decoder: { type: 'Sequence', decoders: Array(40).fill(double) } }),
    () => Object.assign(json, { normalizer: { type: 'Prepend', prepend: 'x'.repeat(1e6) } }),
    () =>
      Object.assign(json, {
        normalizer: { type: 'Sequence', normalizers: Array(1e5).fill({ type: 'NFC' }) },
      }),
    () => Object.assign(json, { decoder: { type: 'Metaspace', replacement: '', prepend_scheme: 'never' } }),
    () => Object.assign(json, { decoder: { type: 'BPEDecoder', suffix: '' } }),
    () =>
      Object.assign(json, {
        model: {
          type: 'Unigram',
          unk_id: 0,
          vocab: [
            ['<unk>', -1],
            ['', 1],
            ['a', random.pick([-1, 0, 1e308, -1e308])],
          ],
        },
      }),
    () => Object.assign(model, { vocab: { ...(model.vocab as object), z: 2 ** 24 - 1 } }),
    () => Object.assign(model, { merges: [...((model.merges as unknown[]) ?? []), ['a', 'a'], 'a  b', 'é'] }),
    () =>
      Object.assign(json, {
        added_tokens: Array.from({ length: 1000 }, (_, id) => ({
          id,
          content: 'a'.repeat(id % 1025),
          special: true,
        })),
      }),
    () =>
      Object.assign(json, {
        added_tokens: [
          { id: 2 ** 24 - 1, content: 'a' },
          { id: 0, content: '' },
        ],
      }),
    () =>
      Object.assign(json, {
        post_processor: {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: 'x' } }, { Sequence: { id: 'A' } }],
          special_tokens: { x: { ids: Array(300_000).fill(0) } },
        },
      }),
    () =>
      Object.assign(json, {
        post_processor: { type: 'BertProcessing', cls: ['a', 2 ** 53], sep: ['b', 1e9] },
      }),
    () =>
      Object.assign(json, {
        normalizer: {
          type: 'Replace',
          pattern: { Regex: random.pick(['(', '[z-a]', '\\p{Nope}', '(?<n>a', '*', 'a{2,1}']) },
          content: '',
        },
      }),
  ])();
  writeFileSync(file, JSON.stringify(json));
  return 'tokenizer.json';
}

/** Values of generation_config.json, of the right type and not. */
function damageGeneration(folder: string, random: SeededRandom): string {
  const file = path.join(folder, 'generation_config.json');
  const keys = [
    ...['do_sample', 'temperature', 'top_k', 'top_p', 'min_p', 'typical_p', 'repetition_penalty'],
    ...['presence_penalty', 'frequency_penalty', 'min_new_tokens', 'max_new_tokens', 'max_length'],
    ...[
      'eos_token_id',
      'bos_token_id',
      'pad_token_id',
      'bad_words_ids',
      'suppress_tokens',
      'forced_eos_token_id',
    ],
  ];
  const content: JsonRecord = {};
  for (let fields = random.integer(1, 4); fields > 0; fields--) {
    content[random.pick(keys)] = random.pick([
      ...VALUES,
      [0, 1, 2],
      [-1],
      [2 ** 40],
      Array(65).fill(1),
      [[1]],
    ]);
  }
  writeFileSync(file, JSON.stringify(content));
  return 'generation_config.json';
}

const BASES = ['sharded', 'experts', 'gptq', 'policy', 'automatic', 'encoder', 'sentencepiece'] as const;
export type Base = (typeof BASES)[number];

const templates = Object.values(
  (
    JSON.parse(
      readFileSync(path.join(repositoryRoot, 'test', 'golden', 'chat-templates', 'cases.json'), 'utf8'),
    ) as { configs: Record<string, JsonRecord> }
  ).configs,
);

/** A checkpoint as one is published: weights, and all the text files around them. */
export function writeCheckpoint(folder: string, base: Base, random: SeededRandom): void {
  rmSync(folder, { recursive: true, force: true });
  const golden = { sharded: 'llama', experts: 'mixtral', gptq: 'gptq', encoder: 'encoder-bert-dense' };
  const write = (name: string, value: unknown): void =>
    writeFileSync(path.join(folder, name), JSON.stringify(value));
  if (base === 'policy') {
    const [name, policy] = random.pick(Object.entries(INJECTION_POLICIES));
    writeRenamedModel({ golden: name, folder, rename: renamed });
    write('injection_policy.json', policy);
  } else if (base === 'automatic') writeRenamedModel({ golden: 'llama', folder, rename: renamed });
  else cpSync(goldenFolder(golden[base as keyof typeof golden] ?? 'mixtral'), folder, { recursive: true });
  if (base === 'encoder') return;
  write('generation_config.json', {
    eos_token_id: [2, 3],
    temperature: 0.8,
    top_k: 40,
    top_p: 0.95,
    do_sample: true,
  });
  write('special_tokens_map.json', { bos_token: '<s>', eos_token: { content: '</s>', lstrip: false } });
  const config = random.pick(templates);
  if (base === 'sentencepiece') {
    const { model, config: settings } = readSentencePieceGolden(random.pick(sentencePieceNames));
    writeFileSync(path.join(folder, 'tokenizer.model'), model);
    write('tokenizer_config.json', {
      ...config,
      ...settings,
      added_tokens_decoder: { 3: { content: '<a>', special: true } },
    });
  } else {
    write('tokenizer.json', readFamilyGolden(random.pick(familyNames)).tokenizer);
    write('tokenizer_config.json', config);
  }
}

const on = (
  base: Base,
  name: string,
  damage: (folder: string, random: SeededRandom) => string,
): DamageKind => ({
  name,
  damage(folder, random) {
    writeCheckpoint(folder, base, random);
    return damage(folder, random);
  },
});

const weightsOf = (folder: string, random: SeededRandom): string => {
  const text = path.join(folder, 'model.safetensors.index.json');
  const { weight_map: map } = JSON.parse(readFileSync(text, 'utf8')) as {
    weight_map: Record<string, string>;
  };
  return random.pick(Object.values(map));
};

/** Each is drawn equally often. */
export const DAMAGE_KINDS: readonly DamageKind[] = [
  on('sharded', 'header of a sharded checkpoint', (folder, random) =>
    damageHeader(folder, weightsOf(folder, random), random),
  ),
  on('experts', 'header of one file', (folder, random) => damageHeader(folder, 'model.safetensors', random)),
  on('gptq', 'header of packed weights', (folder, random) =>
    damageHeader(folder, 'model.safetensors', random),
  ),
  on('automatic', 'header of an unknown model', (folder, random) =>
    damageHeader(folder, 'model.safetensors', random),
  ),
  on('sharded', 'weight_map that leads outside', leadOutside),
  on('experts', 'sizes of experts', inflateConfig),
  on('gptq', 'sizes of packed weights', inflateConfig),
  on('policy', 'sizes of a model with a policy', inflateConfig),
  on('automatic', 'sizes of an unknown model', inflateConfig),
  on('encoder', 'sizes of an encoder', inflateConfig),
  on('sharded', 'nested tokenizer', nestTokenizer),
  on('experts', 'hostile tokenizer', hostileTokenizer),
  on('experts', 'values of generation_config.json', damageGeneration),
  jsonFile('config.json', 'sharded'),
  jsonFile('config.json', 'experts'),
  jsonFile('config.json', 'gptq'),
  jsonFile('config.json', 'encoder'),
  jsonFile('config.json', 'automatic'),
  jsonFile('config.json', 'policy'),
  jsonFile('model.safetensors.index.json', 'sharded'),
  jsonFile('generation_config.json', 'experts'),
  jsonFile('injection_policy.json', 'policy'),
  jsonFile('tokenizer.json', 'sharded'),
  jsonFile('tokenizer.json', 'encoder'),
  jsonFile('tokenizer_config.json', 'experts'),
  jsonFile('tokenizer_config.json', 'sentencepiece'),
  jsonFile('tokenizer_config.json', 'encoder'),
  jsonFile('special_tokens_map.json', 'experts'),
  jsonFile('modules.json', 'encoder'),
  jsonFile(path.join('1_Pooling', 'config.json'), 'encoder'),
  jsonFile(path.join('2_Dense', 'config.json'), 'encoder'),
  jsonFile('sentence_bert_config.json', 'encoder'),
  on('sentencepiece', 'bytes of tokenizer.model', (folder, random) => {
    const file = path.join(folder, 'tokenizer.model');
    writeFileSync(file, damageBytes(readFileSync(file), random));
    return 'tokenizer.model';
  }),
];
