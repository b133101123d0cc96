/**
 * Where make_real_model.py keeps the real model, and what transformers answers with it.
 *
 * Out     the folder, or why there is none: tests are then skipped under that name, and counted
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

export interface ExpectedText {
  prompt: string;
  /** A question in the chat template; the others are beginnings of texts. */
  isChat: boolean;
  promptIds: number[];
  /** Greedy, in float32. */
  ids: number[];
  text: string;
  /** One for each of `ids`. */
  logprobs: number[];
}

export interface Expected {
  texts: ExpectedText[];
  chats: { messages: { role: string; content: string }[]; text: string }[];
}

export const REAL_CACHE = path.join(
  process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'),
  'shardserve',
  'real',
);

/** The weights as published. */
export const REAL_MODEL = path.join(REAL_CACHE, 'smollm2');
/** The package's own file, of which that was made. */
export const REAL_GGUF = path.join(REAL_CACHE, 'gguf', 'model.gguf');
/** The same function off the grid that the weights were rounded to: for what formats cost. */
export const SHUFFLED_MODEL = path.join(REAL_CACHE, 'smollm2-shuffled');

/** Null: the model is there. */
export const WHY_NO_REAL_MODEL = existsSync(path.join(REAL_CACHE, 'expected.json'))
  ? null
  : `there is no real model in ${REAL_CACHE}: run python3 test/real/make_real_model.py`;

export const readExpected = (): Expected =>
  JSON.parse(readFileSync(path.join(REAL_CACHE, 'expected.json'), 'utf8')) as Expected;
