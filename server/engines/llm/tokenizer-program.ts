/**
 * Program of a child process: the tokenizer of one model (tokenizer-process.ts is its other end).
 *
 * In      tasks: { modelFolder } once, then { text, addSpecialTokens } each
 * Out     of the first a TokenizerFacts, of the others ids
 * Limits  limited-task.ts's; MAX_TABLE_UNITS of tokens, MAX_IDS of a text: what passes to the server
 * Errors  CHECKPOINT_INVALID, TOKENIZER_LIMIT
 */
import { ServingError } from '../../../proto/errors.js';
import type { TokenTable } from '../../text/detokenizer.js';
import type { PairFrame } from '../../text/post-processors.js';
import { Tokenizer } from '../../text/tokenizer.js';
import { serveLimitedTasks } from './limited-task.js';

export interface TokenizeTask {
  text: string;
  addSpecialTokens: boolean;
}

export interface TokenizerFacts {
  table: TokenTable;
  trailing: number;
  pairFrame: PairFrame | null;
  longestUnits: number;
}

/** A quarter of a million tokens have some 2 M. */
const MAX_TABLE_UNITS = 32 * 1024 * 1024;
/** Beyond every context in use. */
const MAX_IDS = 1 << 23;

let tokenizer: Tokenizer | null = null;

serveLimitedTasks(
  (task: { modelFolder: string } | TokenizeTask): TokenizerFacts | number[] => {
    if ('modelFolder' in task) {
      tokenizer = Tokenizer.read(task.modelFolder);
      const { longestUnits, pairFrame, table, trailing } = tokenizer;
      const units = table.tokens.reduce((sum, token) => sum + (token?.length ?? 0), 0);
      if (units <= MAX_TABLE_UNITS) return { table, trailing, pairFrame, longestUnits };
      throw new ServingError(
        'CHECKPOINT_INVALID',
        `The tokens of the tokenizer have ${units} characters together, the limit is ${MAX_TABLE_UNITS}`,
      );
    }
    if (tokenizer === null) throw new Error('no tokenizer');
    const ids = tokenizer.encode(task.text, { addSpecialTokens: task.addSpecialTokens });
    if (ids.length <= MAX_IDS) return ids;
    throw new ServingError(
      'TOKENIZER_LIMIT',
      `The model's tokenizer makes ${ids.length} tokens of this text, the limit is ${MAX_IDS}`,
    );
  },
  (task, limitMs) =>
    'text' in task
      ? new ServingError(
          'TOKENIZER_LIMIT',
          `The model's tokenizer was not done with this text of ${task.text.length} characters after ${limitMs} ms, its limit`,
        )
      : new ServingError(
          'CHECKPOINT_INVALID',
          `The tokenizer of the checkpoint was not loaded after ${limitMs} ms, its limit`,
        ),
);
