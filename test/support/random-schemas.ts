/**
 * Random JSON schemas of everything that constrained answers serve, each satisfiable, and random vocabularies that can write them.
 *
 * In      SeededRandom
 * Out     a schema; bytes of tokens
 */
import type { SeededRandom } from '../fixtures/seeded-random.js';

type Schema = Record<string, unknown>;

const NAMES = [
  'name',
  'age',
  'a',
  'aa',
  'aaa',
  'tags',
  'köln',
  'with "quotes"',
  'back\\slash',
  'new\nline',
  '😀',
  '',
];
const PATTERNS = [
  '^[a-z]+$',
  '[0-9]{2,4}',
  '^(ab|cd)*$',
  '^\\S{1,5}$',
  'x.y',
  '^[^"\\\\]{2,}$',
  '^\\u00e9?\\d+$',
  '^(?:a|b){3}c?$|^z+$',
];
const FORMATS = ['date', 'time', 'date-time', 'email', 'hostname', 'ipv4', 'ipv6', 'uuid', 'uri', 'duration'];
const VALUES: readonly unknown[] = [
  'red',
  'green',
  '',
  'a"b',
  7,
  -1.5,
  0,
  true,
  false,
  null,
  [1, 'x'],
  { k: [] },
];

export function randomSchema(random: SeededRandom, depth = 3): Schema | boolean {
  const root = randomObject(random, depth);
  if (random.next() < 0.2 && root.properties !== undefined)
    return {
      ...root,
      $defs: { node: treeSchema() },
      properties: { ...(root.properties as Schema), tree: { $ref: '#/$defs/node' } },
    };
  return random.next() < 0.7 ? root : randomValue(random, depth);
}

const treeSchema = (): Schema => ({
  type: 'object',
  properties: { value: { type: 'integer' }, left: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
  required: ['value', 'left'],
  additionalProperties: false,
});

function randomValue(random: SeededRandom, depth: number): Schema {
  const kinds = depth > 0 ? 9 : 6;
  switch (random.integer(0, kinds)) {
    case 0:
      return { type: 'boolean' };
    case 1:
      return { type: ['null', random.pick(['string', 'integer'])], maxLength: 5 };
    case 2:
      return random.next() < 0.5 ? { enum: someOf(random, VALUES) } : { const: random.pick(VALUES) };
    case 3:
      return randomNumber(random);
    case 4:
      return randomNumber(random);
    case 5:
    case 6:
      return randomString(random);
    case 7:
      return randomList(random, depth - 1);
    case 8:
      return randomAlternatives(random, depth - 1);
    default:
      return randomObject(random, depth - 1);
  }
}

function randomString(random: SeededRandom): Schema {
  const least = random.integer(0, 3);
  switch (random.integer(0, 4)) {
    case 0:
      return { type: 'string' };
    case 1:
      return { type: 'string', pattern: random.pick(PATTERNS) };
    case 2:
      return { type: 'string', format: random.pick(FORMATS) };
    case 3:
      return {
        type: 'string',
        pattern: '^[a-f😀"]*$',
        minLength: least,
        maxLength: least + random.integer(0, 4),
      };
    default:
      return { type: 'string', minLength: least, maxLength: least + random.integer(0, 40) };
  }
}

function randomNumber(random: SeededRandom): Schema {
  const low = random.integer(-2000, 2000);
  const high = low + random.integer(0, 3000);
  switch (random.integer(0, 7)) {
    case 0:
      return { type: 'integer' };
    case 1:
      return { type: 'number' };
    case 2:
      return { type: 'integer', minimum: low, maximum: high };
    case 3:
      return { type: 'number', minimum: low / 8, exclusiveMaximum: high / 8 + 0.5 };
    case 4:
      return {
        type: 'number',
        exclusiveMinimum: low / 1000,
        maximum: low / 1000 + random.pick([0.001, 0.25, 1e6]),
      };
    case 5:
      return { type: 'integer', exclusiveMinimum: low };
    case 6:
      return { type: 'integer', multipleOf: random.integer(1, 60), minimum: low, maximum: low + 2000 };
    default:
      return { type: 'number', maximum: low };
  }
}

function randomList(random: SeededRandom, depth: number): Schema {
  const least = random.integer(0, 2);
  const most = least + random.integer(0, 3);
  switch (random.integer(0, 3)) {
    case 0:
      return { type: 'array', items: randomValue(random, depth), minItems: least, maxItems: most };
    case 1:
      return {
        type: 'array',
        prefixItems: [randomValue(random, depth), { type: 'boolean' }],
        items: random.next() < 0.5 ? false : { type: 'null' },
        maxItems: 4,
      };
    case 2:
      return {
        type: 'array',
        items: { enum: [1, 'two', null, { three: 3 }] },
        uniqueItems: true,
        minItems: least,
      };
    default:
      return { type: 'array', items: { type: 'integer' } };
  }
}

function randomAlternatives(random: SeededRandom, depth: number): Schema {
  switch (random.integer(0, 3)) {
    case 0:
      return { anyOf: [randomValue(random, depth), randomValue(random, depth)] };
    case 1:
      return {
        oneOf: ['circle', 'square'].map((kind) => ({
          type: 'object',
          properties: { kind: { const: kind }, size: randomNumber(random) },
          required: ['kind', 'size'],
        })),
      };
    case 2:
      return {
        allOf: [
          { type: 'object', properties: { a: { type: 'number', minimum: 0 } }, required: ['a'] },
          { properties: { a: { maximum: 10 }, b: randomValue(random, depth) }, required: ['b'] },
        ],
      };
    default:
      return {
        type: 'object',
        anyOf: [{ required: ['a'] }, { required: ['b'] }],
        properties: { a: { type: 'null' }, b: { type: 'integer' } },
      };
  }
}

function randomObject(random: SeededRandom, depth: number): Schema {
  const names = someOf(random, NAMES);
  const properties = Object.fromEntries(names.map((name) => [name, randomValue(random, depth - 1)]));
  const required = names.filter(() => random.next() < 0.6);
  const schema: Schema = { type: 'object', properties, required };
  switch (random.integer(0, 5)) {
    case 0:
      return { ...schema, additionalProperties: { type: 'integer' }, maxProperties: names.length + 2 };
    case 1:
      return { ...schema, minProperties: Math.min(names.length, required.length + 1) };
    case 2:
      return {
        type: 'object',
        patternProperties: { '^x-[a-z]{1,3}$': { type: 'boolean' } },
        maxProperties: 2,
        additionalProperties: false,
      };
    case 3:
      return {
        type: 'object',
        propertyNames: { maxLength: 4 },
        additionalProperties: { type: 'null' },
        maxProperties: 3,
      };
    default:
      return { ...schema, additionalProperties: false };
  }
}

function someOf<T>(random: SeededRandom, list: readonly T[]): T[] {
  const some = list.filter(() => random.next() < 0.3);
  return some.length > 0 ? some : [random.pick(list)];
}

/** Every byte, and pieces of what a JSON text has, cut anywhere. */
export function randomVocabulary(random: SeededRandom, size: number): Uint8Array[] {
  const sources = [
    '{"name": "Ada", "age": 36, "tags": ["x", "y"], "kind": "circle", "size": -12.5e3}',
    '"2024-02-29T12:00:00Z" true false null [[], {}] \n    "with \\"quotes\\"": "back\\\\slash"',
    'the quick brown fox 😀 köln zürich über 日本語 \\u00e9\\n',
    '0123456789 -1 0.25 100000 ,"a":"aa","aaa"}]}',
  ].map((text) => Buffer.from(text));
  const tokens: Uint8Array[] = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  while (tokens.length < size) {
    const source = random.pick(sources);
    const from = random.integer(0, source.length - 2);
    tokens.push(source.subarray(from, from + random.integer(1, 9)));
  }
  return tokens;
}
