/** What test/golden/encoder_goldens.py wrote: texts, their ids and their vectors by sentence-transformers in float32. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { goldenFolder } from './golden.js';

export interface EncoderGolden {
  /** max |a − b| / max |b| */
  tolerance: number;
  texts: GoldenText[];
  /** Pairs of texts, cut. */
  cuts?: { text: string; pair: string; cutAt: number; ids: number[] }[];
}

export interface GoldenText {
  text: string;
  /** A second text beside it. */
  pair?: string;
  ids: number[];
  /** Where the second text begins, if the model is told. */
  secondTextAt?: number;
  /** A classifier of tokens has those of all tokens in turn. */
  vector: number[];
}

export const GOLDEN_ENCODERS: readonly string[] = readdirSync(goldenFolder('')).filter((name) =>
  name.startsWith('encoder-'),
);

export function readEncoderGolden(name: string): EncoderGolden {
  return JSON.parse(readFileSync(path.join(goldenFolder(name), 'vectors.json'), 'utf8')) as EncoderGolden;
}
