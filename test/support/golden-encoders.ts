/** What test/golden/encoder_goldens.py wrote: texts, their ids and their vectors by sentence-transformers in float32. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { goldenFolder } from './golden.js';

export interface EncoderGolden {
  /** max |a − b| / max |b| */
  tolerance: number;
  texts: { text: string; ids: number[]; vector: number[] }[];
}

export const GOLDEN_ENCODERS: readonly string[] = readdirSync(goldenFolder('')).filter((name) =>
  name.startsWith('encoder-'),
);

export function readEncoderGolden(name: string): EncoderGolden {
  return JSON.parse(readFileSync(path.join(goldenFolder(name), 'vectors.json'), 'utf8')) as EncoderGolden;
}
