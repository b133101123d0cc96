/**
 * Program of a child process: which tokens may come next in the constrained answers of one model (constrainer.ts is its other end).
 *
 * In      tasks: { table, vocabSize, endIds } once, then lists of what to do
 * Out     an outcome for each, in order
 * Limits  limited-task.ts's; MAX_GRAMMARS are remembered
 * Errors  of one text: in its outcome; BAD_REQUEST: it took too long
 */
import { ServingError } from '../../../proto/errors.js';
import type { AnswerConstraint } from '../../requests/answer-constraint.js';
import type { State } from '../../text/constraint/machine.js';
import { TokenGrammar } from '../../text/constraint/token-masks.js';
import { TokenTrie } from '../../text/constraint/token-trie.js';
import { Detokenizer, type TokenTable } from '../../text/detokenizer.js';
import { serveLimitedTasks } from './limited-task.js';

export interface ConstraintStart {
  table: TokenTable;
  vocabSize: number;
  endIds: readonly number[];
}

export type ConstraintAsk =
  /** A text begins, or goes on behind these tokens. */
  | { kind: 'open'; text: number; constraint: AnswerConstraint; ids: readonly number[] }
  /** It has one more; `count` with it. */
  | { kind: 'next'; text: number; id: number; count: number };

export interface ConstraintTask {
  asks: readonly ConstraintAsk[];
  /** Texts that have ended. */
  ended: readonly number[];
}

export type ConstraintOutcome =
  | { ids: number[] }
  /** Base64 of a bit an id. */
  | { bits: string }
  | { isUnknown: true }
  | { code: string; message: string };

const MAX_GRAMMARS = 16;
/** Fewer allowed ids than this are told one by one. */
const MAX_LISTED = 512;

interface Text {
  grammar: TokenGrammar;
  state: State;
  count: number;
}

let start: ConstraintStart | null = null;
let trie: TokenTrie | null = null;
const grammars = new Map<string, TokenGrammar>();
const open = new Map<number, Text>();

serveLimitedTasks(
  (task: ConstraintStart | ConstraintTask): null | ConstraintOutcome[] => {
    if ('table' in task) {
      start = task;
      const texts = new Detokenizer(task.table);
      trie = new TokenTrie(Array.from({ length: task.vocabSize }, (_, id) => texts.tokenBytes(id)));
      return null;
    }
    for (const text of task.ended) open.delete(text);
    return task.asks.map((ask) => {
      try {
        return outcome(ask.kind === 'open' ? begin(ask) : next(ask));
      } catch (error) {
        if (isLate(error)) throw error;
        open.delete(ask.text);
        const { code, message } = ServingError.from(error);
        return { code, message };
      }
    });
  },
  (_task, limitMs) =>
    new ServingError(
      'BAD_REQUEST',
      `The form that is asked of the answer was not worked out after ${limitMs} ms, its limit`,
    ),
);

/** The watchdog's own must end the task. */
const isLate = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';

function begin({ constraint, ids, text }: Extract<ConstraintAsk, { kind: 'open' }>): Text {
  const grammar = grammarOf(constraint);
  let opened: Text = { grammar, state: grammar.start, count: 0 };
  for (const id of ids) opened = follow(opened, id);
  open.set(text, opened);
  return opened;
}

function next({ count, id, text }: Extract<ConstraintAsk, { kind: 'next' }>): Text | null {
  const known = open.get(text);
  if (known === undefined) return null;
  if (known.count === count) return known;
  if (known.count !== count - 1) return null;
  const followed = follow(known, id);
  open.set(text, followed);
  return followed;
}

function follow({ count, grammar, state }: Text, id: number): Text {
  const after = grammar.after(state, id);
  if (after === null) throw new Error(`token ${id} does not follow in a constrained answer`);
  return { grammar, state: after, count: count + 1 };
}

function grammarOf(constraint: AnswerConstraint): TokenGrammar {
  if (start === null || trie === null) throw new Error('no vocabulary');
  const key = JSON.stringify(constraint);
  const grammar = grammars.get(key) ?? new TokenGrammar(constraint, trie, start.vocabSize, start.endIds);
  // The last that were used stay.
  grammars.delete(key);
  grammars.set(key, grammar);
  for (const oldest of grammars.keys()) {
    if (grammars.size <= MAX_GRAMMARS) break;
    grammars.delete(oldest);
  }
  return grammar;
}

function outcome(text: Text | null): ConstraintOutcome {
  if (text === null) return { isUnknown: true };
  const mask = text.grammar.mask(text.state);
  const ids: number[] = [];
  for (let at = 0; at < mask.length; at++) {
    for (let bits = mask[at]!; bits !== 0; bits &= bits - 1) {
      if (ids.length === MAX_LISTED) {
        return { bits: Buffer.from(mask.buffer, mask.byteOffset, mask.byteLength).toString('base64') };
      }
      ids.push(at * 32 + 31 - Math.clz32(bits & -bits));
    }
  }
  return { ids };
}
