/**
 * Program of a child process: the tokenizer of one model (tokenizer-process.ts is its other end).
 *
 * In      tasks: FirstTask once, then { text, addSpecialTokens } each
 * Out     of the first a TokenizerFacts, of the others ids
 * Limits  limited-task.ts's; MAX_TABLE_UNITS of tokens, MAX_TEMPLATE_UNITS of the chat template, MAX_IDS of a text: what passes to the server
 * Errors  CHECKPOINT_INVALID, TOKENIZER_LIMIT
 */
import { ServingError } from '../../../proto/errors.js';
import { type ChatTemplateSource, readChatTemplate } from '../../text/chat-template.js';
import type { TokenTable } from '../../text/detokenizer.js';
import type { PairFrame } from '../../text/post-processors.js';
import { Tokenizer } from '../../text/tokenizer.js';
import { endTokenOf, unservedGenerationKeys } from './generation-config.js';
import { serveLimitedTasks } from './limited-task.js';

export interface FirstTask {
  modelFolder: string;
  /** Instead of the checkpoint's; null: that. */
  chatTemplate: string | null;
}

export interface TokenizeTask {
  text: string;
  addSpecialTokens: boolean;
}

export interface TokenizerFacts {
  table: TokenTable;
  trailing: number;
  pairFrame: PairFrame | null;
  longestUnits: number;
  /** null: the checkpoint has none. */
  template: ChatTemplateSource | null;
  /** tokenizer_config.json's `eos_token`. */
  endToken: string | null;
  /** Keys of generation_config.json that would change a text elsewhere, and do nothing here. */
  unservedKeys: readonly string[];
}

/** A quarter of a million tokens have some 2 M. */
const MAX_TABLE_UNITS = 32 * 1024 * 1024;
/** The longest in use have some 30,000. */
const MAX_TEMPLATE_UNITS = 4 * 1024 * 1024;
/** Beyond every context in use. */
const MAX_IDS = 1 << 23;

let tokenizer: Tokenizer | null = null;

serveLimitedTasks(
  (task: FirstTask | TokenizeTask): TokenizerFacts | number[] => {
    if ('modelFolder' in task) return factsOf(task);
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

/** @throws ServingError CHECKPOINT_INVALID */
function factsOf({ chatTemplate, modelFolder }: FirstTask): TokenizerFacts {
  const read = Tokenizer.read(modelFolder);
  const { longestUnits, pairFrame, table, trailing } = read;
  const units = table.tokens.reduce((sum, token) => sum + (token?.length ?? 0), 0);
  if (units > MAX_TABLE_UNITS) throw tooLong('tokens of the tokenizer', units, MAX_TABLE_UNITS);
  const template = readChatTemplate(modelFolder, chatTemplate);
  const templateUnits = JSON.stringify(template).length;
  if (templateUnits > MAX_TEMPLATE_UNITS)
    throw tooLong('chat template and its special tokens', templateUnits, MAX_TEMPLATE_UNITS);
  const endToken = endTokenOf(modelFolder);
  const unservedKeys = unservedGenerationKeys(modelFolder);
  tokenizer = read;
  return { table, trailing, pairFrame, longestUnits, template, endToken, unservedKeys };
}

const tooLong = (what: string, units: number, most: number): ServingError =>
  new ServingError(
    'CHECKPOINT_INVALID',
    `The ${what} have ${units} characters together, the limit is ${most}`,
  );
