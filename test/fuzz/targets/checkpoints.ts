/** A checkpoint's files: config.json and the plan of it, safetensors, its index, policies, tokenizers. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { openCheckpoint } from '../../../partitioner/checkpoint/safetensors.js';
import { parseSafetensorsHeader } from '../../../partitioner/checkpoint/safetensors-header.js';
import { openModel } from '../../../partitioner/open-model.js';
import { planPartition } from '../../../partitioner/partition.js';
import { checkInjectionPolicy } from '../../../partitioner/policies/injection-policy.js';
import { endTokenOf, unservedGenerationKeys } from '../../../server/engines/llm/generation-config.js';
import { ChatTemplate, readChatTemplate } from '../../../server/text/chat-template.js';
import { Tokenizer } from '../../../server/text/tokenizer.js';
import { INJECTION_POLICIES } from '../../fixtures/injection-policies.js';
import { goldenFolder } from '../../support/golden.js';
import { repositoryRoot } from '../../support/repository-root.js';
import { metaspaceJson, sentencePieceJson } from '../../unit/server/text/toy-tokenizers.js';
import { type FuzzTarget, isOperating } from '../fuzz-target.js';
import { type Json, jsonText, mutatedBytes, mutatedJson, mutatedText } from '../mutations.js';
import { putFile, scratchFolder } from '../scratch.js';
import { sentencePieceBytes } from './sentencepiece-bytes.js';
import { tinyGgufParts, tinyGgufs } from './tiny-gguf.js';

const FAMILIES = [
  'llama',
  'mixtral',
  'qwen2',
  'gpt2',
  'bloom',
  'falcon-7b',
  'gemma3',
  'phi3-longrope',
  'gpt-oss',
  'encoder-bert',
  'olmoe',
  'cohere2',
  'gptq',
  'compressed-int4',
  'float8-blocks',
];
const jsonOf = (...parts: string[]): Json => JSON.parse(readFileSync(path.join(...parts), 'utf8')) as Json;
const configs = FAMILIES.map((family) => jsonOf(goldenFolder(family), 'config.json'));

const TOKENIZER_CONFIG: Json = {
  ...{ bos_token: '<s>', eos_token: { content: '</s>', special: true }, pad_token: null },
  chat_template: [
    { name: 'default', template: '{{ messages }}' },
    { name: 'tool_use', template: '{{ tools }}' },
  ],
  additional_special_tokens: ['<a>', { content: '<b>' }],
};
const GENERATION_CONFIG: Json = { num_beams: 1, stop_strings: [], top_h: null, bad_words_ids: [[1, 2]] };
const ENCODER_CONFIG = readFileSync(path.join(goldenFolder('encoder-bert-dense'), 'config.json'), 'utf8');
const MODULE_FILES = [
  'modules.json',
  'sentence_bert_config.json',
  '1_Pooling/config.json',
  '2_Dense/config.json',
].map((file) => [file, jsonOf(goldenFolder('encoder-bert-dense'), file)] as const);

const INDEX = jsonOf(goldenFolder('llama'), 'model.safetensors.index.json');
const HEADER: Json = {
  __metadata__: { format: 'pt' },
  a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  b: { dtype: 'BF16', shape: [4], data_offsets: [24, 32] },
  c: { dtype: 'F16', shape: [], data_offsets: [32, 34] },
};
const DATA_BYTES = 34;

const BYTE_LEVEL: Json = {
  added_tokens: [
    {
      id: 6,
      content: '<s>',
      special: true,
      normalized: false,
      lstrip: true,
      rstrip: false,
      single_word: false,
    },
  ],
  normalizer: {
    type: 'Sequence',
    normalizers: [{ type: 'NFC' }, { type: 'Lowercase' }, { type: 'StripAccents' }],
  },
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Split', pattern: { Regex: "\\p{L}+|\\s+(?!\\S)|'s" }, behavior: 'Isolated', invert: false },
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
  },
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<s>': { id: '<s>', ids: [6], tokens: ['<s>'] } },
  },
  decoder: { type: 'ByteLevel' },
  model: {
    type: 'BPE',
    vocab: { a: 0, t: 1, h: 2, e: 3, th: 4, the: 5 },
    merges: ['t h', ['th', 'e']],
    unk_token: null,
  },
};
const WORD_PIECE: Json = {
  added_tokens: [],
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: { type: 'BertProcessing', sep: ['b', 2], cls: ['a', 1] },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: { '[UNK]': 0, a: 1, b: 2, the: 3, cat: 4, '##s': 5 },
  },
};
const TOKENIZERS = [
  ...[sentencePieceJson(), metaspaceJson()].map((json) => json as Json),
  BYTE_LEVEL,
  WORD_PIECE,
];
const TEXTS = ['', 'the cat', ' é日😀', 'a<s>b ', '\ud800'];

const templates = Object.values(
  (
    jsonOf(repositoryRoot, 'test', 'golden', 'chat-templates', 'cases.json') as {
      configs: Record<string, { chat_template?: unknown }>;
    }
  ).configs,
)
  .map(({ chat_template: text }) => text)
  .filter((text) => typeof text === 'string');
/** No numbers that a loop may count to: how long one runs is for the process that renders. */
const TEMPLATE_WORDS = [
  '{{',
  '}}',
  '{%',
  '%}',
  '{#',
  '#}',
  '|',
  'endif',
  'for x in messages',
  'raise_exception',
  '(',
  ')',
  '[',
  '[-1]',
  '.x',
  'none',
  '""',
  "'",
  'if',
  'namespace()',
];

const safetensors = (header: string, dataBytes: number): Buffer => {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
};

export const CHECKPOINT_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'safetensors-header',
    weight: 15,
    run: (random) =>
      parseSafetensorsHeader(
        Buffer.from(jsonText(mutatedJson(HEADER, random), random)),
        random.pick([DATA_BYTES, DATA_BYTES, DATA_BYTES, 0, 2 ** 40]),
        'model.safetensors',
      ),
    isExpected: isOperating,
  },
  {
    name: 'safetensors-file',
    weight: 2,
    run(random) {
      const folder = scratchFolder('safetensors');
      const good = safetensors(JSON.stringify(HEADER), DATA_BYTES);
      const changed = safetensors(jsonText(mutatedJson(HEADER, random), random), DATA_BYTES);
      putFile(folder, 'model.safetensors', mutatedBytes([good, changed], random));
      openCheckpoint(folder).close();
    },
    isExpected: isOperating,
  },
  {
    name: 'safetensors-index',
    weight: 2,
    run(random) {
      const folder = scratchFolder('index');
      const weights = safetensors(JSON.stringify(HEADER), DATA_BYTES);
      for (const part of [1, 2]) putFile(folder, `model-0000${part}-of-00005.safetensors`, weights);
      putFile(folder, 'model.safetensors.index.json', jsonText(mutatedJson(INDEX, random), random));
      openCheckpoint(folder).close();
    },
    isExpected: isOperating,
  },
  {
    name: 'gguf',
    weight: 6,
    async run(random) {
      const file = putFile(scratchFolder('gguf'), 'model.gguf', mutatedBytes(tinyGgufs(), random));
      Tokenizer.read(file).encode('the');
      const { source } = await openModel({ folder: file });
      try {
        for (const [name, { shape }] of source.tensors) source.readFloat32(name, 0, shape[0] ?? 1);
      } finally {
        source.close();
      }
    },
    isExpected: isOperating,
  },
  {
    name: 'gguf-parts',
    weight: 3,
    async run(random) {
      const folder = scratchFolder('gguf-parts');
      const [first, second] = tinyGgufParts();
      const only = random.integer(0, 2);
      const names = ['model-00001-of-00002.gguf', 'model-00002-of-00002.gguf'] as const;
      // A part may be the other one, too.
      const changed = (part: Buffer) => mutatedBytes(random.next() < 0.9 ? [part] : [first, second], random);
      putFile(folder, names[0], only === 1 ? first : changed(first));
      putFile(folder, names[1], only === 0 ? second : changed(second));
      const { source } = await openModel({ folder });
      try {
        for (const [name, { shape }] of source.tensors) source.readFloat32(name, 0, shape[0] ?? 1);
      } finally {
        source.close();
      }
    },
    isExpected: isOperating,
  },
  {
    name: 'text-files',
    weight: 4,
    run(random) {
      const folder = scratchFolder('text-files');
      putFile(folder, 'tokenizer_config.json', jsonText(mutatedJson(TOKENIZER_CONFIG, random), random));
      putFile(folder, 'generation_config.json', jsonText(mutatedJson(GENERATION_CONFIG, random), random));
      unservedGenerationKeys(folder);
      endTokenOf(folder);
      return JSON.stringify(readChatTemplate(folder, random.next() < 0.1 ? '{{ own }}' : null));
    },
    isExpected: isOperating,
  },
  {
    name: 'sentence-modules',
    weight: 3,
    async run(random) {
      const folder = scratchFolder('modules');
      putFile(folder, 'config.json', ENCODER_CONFIG);
      const changed = random.integer(0, MODULE_FILES.length - 1);
      for (const [index, [file, json]] of MODULE_FILES.entries())
        putFile(folder, file, jsonText(index === changed ? mutatedJson(json, random) : json, random));
      await planPartition({ folder, tp: random.pick([1, 2]), dtype: 'fp32' });
    },
    isExpected: isOperating,
  },
  {
    name: 'config',
    weight: 3,
    async run(random) {
      const folder = scratchFolder('config');
      putFile(folder, 'config.json', jsonText(mutatedJson(random.pick(configs), random), random));
      await planPartition({ folder, tp: random.pick([1, 2, 4]), dtype: 'fp32' });
    },
    isExpected: isOperating,
  },
  {
    name: 'injection-policy',
    weight: 4,
    run: (random) =>
      checkInjectionPolicy(
        mutatedJson(random.pick(Object.values(INJECTION_POLICIES)) as unknown as Json, random) as never,
        'injection_policy.json',
      ),
    isExpected: isOperating,
  },
  {
    name: 'tokenizer-json',
    weight: 4,
    run(random) {
      const json = mutatedJson(random.pick(TOKENIZERS), random);
      if (typeof json !== 'object' || json === null || Array.isArray(json)) return;
      const tokenizer = Tokenizer.fromJson(json);
      for (const text of TEXTS) tokenizer.decode(tokenizer.encode(text).filter((id) => id >= 0));
    },
    isExpected: isOperating,
  },
  {
    name: 'sentencepiece',
    weight: 4,
    run(random) {
      const tokenizer = Tokenizer.fromSentencePiece(
        mutatedBytes([sentencePieceBytes('bpe'), sentencePieceBytes('unigram')], random),
        null,
      );
      for (const text of TEXTS) tokenizer.decode(tokenizer.encode(text));
    },
    isExpected: isOperating,
  },
  {
    name: 'chat-template',
    weight: 3,
    run(random) {
      const text = mutatedText(random.pick(templates), random, TEMPLATE_WORDS).replace(/\d{4,}/g, '9');
      const messages = [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello' },
        { role: 'user', content: 'So' },
      ];
      new ChatTemplate({ text, toolText: null, specialTokens: {} as never }).render(messages, {
        addGenerationPrompt: true,
      });
    },
    isExpected: isOperating,
  },
];
