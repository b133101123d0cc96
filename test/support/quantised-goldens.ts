/**
 * Reads what test/golden/make_quantised.py wrote: tokens and logits of Hugging Face transformers with the weights that 4 and 8 bits leave, for
 * devices that do not round activations.
 *
 * Out     null where there is none
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { goldenFolder } from './golden.js';

export interface QuantisedCase {
  name: string;
  dtype: 'int8' | 'int4';
  /** Linears that int4 leaves at 8 bits, if any. */
  eightBit?: readonly string[];
}

export interface QuantisedPrompt {
  ids: number[];
  greedyIds: number[];
  /** At the prompt's last position. */
  logits: Float32Array;
}

interface Line {
  model: string;
  dtype: string;
  eightBit: string | null;
  prompts: { ids: number[]; greedyIds: number[]; logits: string }[];
}

export function readQuantisedGolden({ name, dtype, eightBit }: QuantisedCase): QuantisedPrompt[] | null {
  const text = gunzipSync(readFileSync(goldenFolder('quantised.jsonl.gz'))).toString();
  const [, ...lines] = text.trimEnd().split('\n');
  const wanted = eightBit?.join() ?? null;
  const line = lines
    .map((each) => JSON.parse(each) as Line)
    .find((each) => each.model === name && each.dtype === dtype && each.eightBit === wanted);
  return line?.prompts.map((prompt) => ({ ...prompt, logits: floats(prompt.logits) })) ?? null;
}

function floats(base64: string): Float32Array {
  const bytes = new Uint8Array(Buffer.from(base64, 'base64'));
  return new Float32Array(bytes.buffer);
}
