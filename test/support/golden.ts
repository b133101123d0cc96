/**
 * Reads what test/golden/make_goldens.py wrote: prompts, logits and greedy tokens of Hugging Face transformers in float32.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { repositoryRoot } from './repository-root.js';

export interface GoldenPrompt {
  name: string;
  ids: number[];
  /** Positions whose logits are kept, in order. */
  logitPositions: number[];
  /** Row of the logits file that holds the first of them. */
  firstLogitRow: number;
  greedyIds: number[];
}

export interface Golden {
  model: string;
  tolerance: number;
  vocabSize: number;
  prompts: GoldenPrompt[];
  /** float32 [vocabSize] of a prompt at one of its logitPositions. */
  logits(prompt: GoldenPrompt, position: number): Float32Array;
}

export const goldenFolder = (name: string): string => path.join(repositoryRoot, 'test', 'golden', name);

export function readGolden(name: string): Golden {
  const folder = goldenFolder(name);
  const golden = JSON.parse(readFileSync(path.join(folder, 'golden.json'), 'utf8')) as Golden & {
    logitsFile: string;
  };
  const bytes = readFileSync(path.join(folder, golden.logitsFile));
  return {
    ...golden,
    logits(prompt, position) {
      const index = prompt.logitPositions.indexOf(position);
      if (index < 0) throw new Error(`${name}/${prompt.name} has no logits at position ${position}`);
      const start = (prompt.firstLogitRow + index) * golden.vocabSize * 4;
      const row = new Uint8Array(bytes.subarray(start, start + golden.vocabSize * 4));
      return new Float32Array(row.buffer);
    },
  };
}
