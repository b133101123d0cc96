/**
 * Changes that keep enough of a form to get past the first check: of JSON, of text with lines and words, of bytes with fields.
 *
 * In      a form that is right; random numbers
 * Out     one that is a little, or very, wrong
 * Pure    by the seed
 */
import type { SeededRandom } from '../fixtures/seeded-random.js';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Words of whatever nests. */
export const BRACKETS = ['(', ')', '[', ']', '{', '}'] as const;

const HOSTILE_TEXTS = [
  ...['', ' ', '\u0000', '\ud800', '\u202e', '😀', 'é'.repeat(300), 'a'.repeat(70_000), '../../etc/passwd'],
  ...[
    '/etc/passwd',
    '__proto__',
    'constructor',
    'toString',
    'NaN',
    '-0',
    '1e999',
    '%00',
    "'",
    '"',
    '\\',
    '\n',
  ],
  ...['{{x}}', '<s>', 'true', 'null', '[', '{', '(a+)+$', '(?:', '[a-', 'a{2,1}', '\\p{Lu}', '$ref'],
];
const HOSTILE_NUMBERS = [
  ...[0, -0, -1, 1, 2, 0.5, -0.5, 127, 128, 255, 256, 65_535, 65_536, 2 ** 24, 2 ** 31 - 1, 2 ** 31, 2 ** 32],
  ...[2 ** 53 - 1, 2 ** 53, -(2 ** 53), 1e-320, 1e308, -1e308, 1e16, 3.5],
];
const HOSTILE_KEYS = [
  '__proto__',
  'constructor',
  'toString',
  '',
  'length',
  'a'.repeat(3000),
  '\u0000',
  '0',
  '-1',
];
const MOST_NODES = 20_000;

const clone = (value: Json): Json => structuredClone(value);

function hostileValue(random: SeededRandom): Json {
  switch (random.integer(0, 9)) {
    case 0:
    case 1:
    case 2:
      return random.pick(HOSTILE_NUMBERS);
    case 3:
    case 4:
      return random.pick(HOSTILE_TEXTS);
    case 5:
      return random.pick([null, true, false]);
    case 6:
      return random.pick<Json>([[], {}, [[]], [null], [{}], { a: [] }, [0, ''], { '': null }]);
    case 7:
      return nested(random.integer(1, 200), random.next() < 0.5);
    case 8:
      return Array.from({ length: random.integer(0, 300) }, () => random.pick(HOSTILE_NUMBERS));
    default:
      return Object.fromEntries(
        Array.from({ length: random.integer(1, 40) }, (_, at) => [
          `k${at}`,
          random.pick(HOSTILE_TEXTS).slice(0, 50),
        ]),
      );
  }
}

function nested(depth: number, isList: boolean): Json {
  let value: Json = 0;
  for (let level = 0; level < depth; level++) value = isList ? [value] : { a: value };
  return value;
}

interface Place {
  holder: Json[] | { [key: string]: Json };
  key: string | number;
}

function placesOf(root: Json): Place[] {
  const places: Place[] = [];
  const visit = (value: Json): void => {
    if (typeof value !== 'object' || value === null || places.length > MOST_NODES) return;
    const keys = Array.isArray(value) ? [...value.keys()] : Object.keys(value);
    for (const key of keys) {
      places.push({ holder: value, key });
      visit((value as { [key: string]: Json })[key]!);
    }
  };
  visit(root);
  return places;
}

/** Something else at one place, or at a few. */
export function mutatedJson(value: Json, random: SeededRandom): Json {
  const root: Json = [clone(value)];
  for (let count = random.integer(1, 3); count > 0; count--) {
    const places = placesOf(root);
    if (places.length === 0) break;
    mutatePlace(random.pick(places), places, random);
  }
  return root[0] ?? null;
}

function mutatePlace({ holder, key }: Place, places: readonly Place[], random: SeededRandom): void {
  const object = holder as { [key: string]: Json };
  const now = object[key] as Json;
  switch (random.integer(0, 8)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete object[key];
      return;
    case 1: {
      const other = random.pick(places);
      object[key] = clone((other.holder as { [key: string]: Json })[other.key] as Json);
      return;
    }
    case 2:
      if (Array.isArray(holder))
        holder.push(...Array.from({ length: random.integer(1, 50) }, () => clone(now)));
      else
        Object.defineProperty(object, random.pick(HOSTILE_KEYS), {
          value: clone(now),
          enumerable: true,
          configurable: true,
          writable: true,
        });
      return;
    case 3:
      object[key] = random.next() < 0.5 ? [now] : { [String(key)]: now };
      return;
    case 4:
      if (typeof now === 'number')
        object[key] = random.pick([now + 1, now - 1, -now, now * 2, now + 0.5, now * 1e9]);
      else if (typeof now === 'string') object[key] = mutatedText(now, random).slice(0, 5000);
      else object[key] = hostileValue(random);
      return;
    case 5:
      object[key] = typeof now === 'string' ? [now] : (JSON.stringify(now) ?? '').slice(0, 100);
      return;
    default:
      object[key] = hostileValue(random);
  }
}

/** The text of it, sometimes broken as text: cut, a key given twice, numbers that JSON has and doubles do not. */
export function jsonText(value: Json, random: SeededRandom): string {
  const text = JSON.stringify(value) ?? 'null';
  switch (random.integer(0, 11)) {
    case 0:
      return text.slice(0, random.integer(0, text.length));
    case 1:
      return text.replace(/"(\w+)":/, (match) => `${match}1,${match}`);
    case 2:
      return text.replace(/\d+/, () =>
        random.pick(['1e999', '-1e999', '1'.repeat(400), '0x10', '01', 'NaN']),
      );
    case 3:
      return mutatedText(text, random);
    default:
      return text;
  }
}

/** Lines, words, characters: left out, doubled, moved, replaced by what is feared. */
export function mutatedText(
  text: string,
  random: SeededRandom,
  words: readonly string[] = HOSTILE_TEXTS,
): string {
  let result = text;
  for (let count = random.integer(1, 4); count > 0; count--) result = oneTextChange(result, random, words);
  return result;
}

function oneTextChange(text: string, random: SeededRandom, words: readonly string[]): string {
  const at = random.integer(0, text.length);
  const end = Math.min(text.length, at + random.integer(1, 20));
  const lines = text.split('\n');
  const line = random.integer(0, lines.length - 1);
  switch (random.integer(0, 8)) {
    case 0:
      return text.slice(0, at) + text.slice(end);
    case 1:
      return text.slice(0, at) + random.pick(words) + text.slice(at);
    case 2:
      return text.slice(0, at) + random.pick(words) + text.slice(end);
    case 3:
      return text.slice(0, end) + text.slice(at, end).repeat(random.integer(1, 60)) + text.slice(end);
    case 4:
      return lines.toSpliced(line, 1).join('\n');
    case 5:
      return lines.toSpliced(random.integer(0, lines.length), 0, lines[line]!).join('\n');
    case 6:
      return text.slice(0, at) + String.fromCharCode(random.integer(0, 0x2ff)) + text.slice(at);
    case 7:
      return text.replace(/-?\d+(?:\.\d+)?/g, (number) =>
        random.next() < 0.3 ? String(random.pick(HOSTILE_NUMBERS)) : number,
      );
    default:
      return text.slice(0, at);
  }
}

const EDGES = [
  0, 1, 2, 4, 7, 8, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
  0xffffffff,
];

/** Fields, lengths and bits; two forms joined. */
export function mutatedBytes(seeds: readonly Uint8Array[], random: SeededRandom): Buffer {
  let bytes: Buffer = Buffer.from(random.pick(seeds));
  for (let count = random.integer(1, 6); count > 0; count--) bytes = oneByteChange(bytes, seeds, random);
  return bytes;
}

function oneByteChange(bytes: Buffer, seeds: readonly Uint8Array[], random: SeededRandom): Buffer {
  if (bytes.length === 0) return Buffer.from(random.pick(seeds));
  const at = random.integer(0, bytes.length - 1);
  const end = Math.min(bytes.length, at + random.integer(1, 32));
  const isBig = random.next() < 0.3;
  const edge = random.pick(EDGES);
  switch (random.integer(0, 9)) {
    case 0:
      bytes[at] = bytes[at]! ^ (1 << random.integer(0, 7));
      return bytes;
    case 1:
      bytes[at] = edge & 0xff;
      return bytes;
    case 2:
      if (at + 2 <= bytes.length)
        isBig ? bytes.writeUInt16BE(edge & 0xffff, at) : bytes.writeUInt16LE(edge & 0xffff, at);
      return bytes;
    case 3:
      if (at + 4 <= bytes.length) isBig ? bytes.writeUInt32BE(edge, at) : bytes.writeUInt32LE(edge, at);
      return bytes;
    case 4:
      if (at + 8 <= bytes.length)
        bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(edge) << BigInt(random.pick([0, 16, 32]))), at);
      return bytes;
    case 5:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 6:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    case 7:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from(random.pick(seeds)).subarray(random.integer(0, 40)),
      ]);
    case 8:
      bytes.fill(random.integer(0, 255), at, end);
      return bytes;
    default:
      return bytes.subarray(0, at);
  }
}
