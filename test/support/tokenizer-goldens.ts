/** The 2,000 lines and what the reference implementations make of them (test/golden/tokenizers). */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { repositoryRoot } from './repository-root.js';

export interface FamilyGolden {
  tokenizer: Record<string, unknown>;
  prefixIds: number[];
  suffixIds: number[];
  ids: number[][];
  /** By line: only where the text does not come out as it went in. */
  decoded: Record<string, string>;
  /** CRC-32 of the text with special tokens in it. */
  decodedCrc: number[];
}

export interface SentencePieceGolden {
  model: Buffer;
  config: Record<string, unknown>;
  ids: number[][];
  decoded: Record<string, string>;
}

const folder = path.join(repositoryRoot, 'test', 'golden', 'tokenizers');
const textOf = (name: string): string =>
  gunzipSync(readFileSync(path.join(folder, `${name}.json.gz`))).toString('utf8');

/** Stands once in the folder; the files that need it say CHARSMAP. */
const charsmap = JSON.parse(textOf('charsmap')) as string;
export const goldenLines = JSON.parse(textOf('lines')) as string[];

const names = readdirSync(folder).map((file) => file.replace('.json.gz', ''));
export const familyNames = names.filter(
  (name) => !name.includes('.') && name !== 'lines' && name !== 'charsmap',
);
export const sentencePieceNames = names
  .filter((name) => name.endsWith('.spm'))
  .map((name) => name.replace('.spm', ''));

export function readFamilyGolden(name: string): FamilyGolden {
  return JSON.parse(textOf(name).replace('"CHARSMAP"', JSON.stringify(charsmap))) as FamilyGolden;
}

export function readSentencePieceGolden(name: string): SentencePieceGolden {
  const golden = JSON.parse(textOf(`${name}.spm`)) as Omit<SentencePieceGolden, 'model'> & {
    model: string[];
  };
  const parts = golden.model.map((part) => Buffer.from(part, 'base64'));
  const [first, ...others] = parts as [Buffer, ...Buffer[]];
  const between = Buffer.from(charsmap, 'base64');
  return { ...golden, model: Buffer.concat([first, ...others.flatMap((part) => [between, part])]) };
}
