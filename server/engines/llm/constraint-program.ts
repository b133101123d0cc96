/**
 * Program of a child process: which tokens may come next in the constrained answers of one model (constrainer.ts is its other end).
 *
 * In      tasks: { table, vocabSize, endIds } once, then lists of what to do
 * Out     an outcome for each, in order: where the text is now, and what is new of its grammar (known-grammar.ts): the mask, and the states
 *         around, so that the other end follows most texts by itself and asks only where it does not know on
 * Limits  limited-task.ts's; MAX_GRAMMARS are remembered; MAX_TOLD_BYTES of all grammars are told, then all is told anew
 * Errors  of one text: in its outcome; BAD_REQUEST: it took too long
 */
import { randomUUID } from 'node:crypto';
import { ServingError } from '../../../proto/errors.js';
import type { AnswerConstraint } from '../../requests/answer-constraint.js';
import { FAR_TOKENS, type State } from '../../text/constraint/machine.js';
import { type NumberedMask, TokenGrammar } from '../../text/constraint/token-masks.js';
import { TokenTrie } from '../../text/constraint/token-trie.js';
import { Detokenizer } from '../../text/detokenizer.js';
import {
  type ConstraintAsk,
  type ConstraintOutcome,
  type ConstraintStart,
  type ConstraintTask,
  type GrammarNews,
  NOWHERE,
  type ToldMask,
  UNKNOWN,
} from './constraint-messages.js';
import { serveLimitedTasks } from './limited-task.js';

const MAX_GRAMMARS = 16;
/** Fewer allowed ids than this are told one by one. */
const MAX_LISTED = 512;

/** What is told takes so much at the other end. */
const MAX_TOLD_BYTES = 16 * 1024 * 1024;
const BYTES_A_NUMBER = 4;
/** More than there are classes of bytes. */
const BYTES = 257;

interface Grammar {
  number: number;
  tokens: TokenGrammar;
  /** Those that were told, and how: its mask, and how many ways on are not known. */
  states: Map<State, number>;
  masks: Set<number>;
  /** Places whose surroundings were told. */
  around: Set<State>;
  generation: number;
}

interface Text {
  grammar: Grammar;
  state: State;
  /** As the other end follows it. */
  place: State;
  since: number | null;
  /** The states from the place before its last token to this one: its bytes are known from now on. */
  path: readonly State[];
  count: number;
}

let start: ConstraintStart | null = null;
let trie: TokenTrie | null = null;
const grammars = new Map<string, Grammar>();
const open = new Map<number, Text>();
/** What another process has told is not known either. */
const processId = randomUUID();
let generation = 0;
let toldBytes = 0;
let lastGrammar = 0;
/** A task that was late ended anywhere: what it has told did not arrive. */
let isTelling = false;

serveLimitedTasks(
  (task: ConstraintStart | ConstraintTask): null | ConstraintOutcome[] => {
    if ('table' in task) {
      start = task;
      const texts = new Detokenizer(task.table);
      trie = new TokenTrie(Array.from({ length: task.vocabSize }, (_, id) => texts.tokenBytes(id)));
      return null;
    }
    if (isTelling || toldBytes > MAX_TOLD_BYTES) forgetTold();
    isTelling = true;
    for (const text of task.ended) open.delete(text);
    const outcomes = task.asks.map((ask): ConstraintOutcome => {
      try {
        return outcome(ask.kind === 'open' ? begin(ask) : next(ask));
      } catch (error) {
        if (isLate(error)) throw error;
        open.delete(ask.text);
        const { code, message } = ServingError.from(error);
        return { code, message };
      }
    });
    isTelling = false;
    return outcomes;
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

function forgetTold(): void {
  generation++;
  toldBytes = 0;
}

function begin({ constraint, ids, text }: Extract<ConstraintAsk, { kind: 'open' }>): Text {
  const grammar = grammarOf(constraint);
  let state = grammar.tokens.start;
  for (const id of ids) state = after(grammar, state, id);
  const opened = placed(grammar, state, ids.length);
  open.set(text, opened);
  return opened;
}

function next({ count, ids, text }: Extract<ConstraintAsk, { kind: 'next' }>): Text | null {
  const known = open.get(text);
  if (known === undefined) return null;
  // It may be asked again: what was asked with it took too long.
  const missing = count - known.count;
  if (missing < 0 || missing > ids.length) return null;
  let followed = known;
  for (const id of ids.slice(ids.length - missing)) followed = follow(followed, id);
  open.set(text, followed);
  return followed;
}

function follow({ count, grammar, place, since, state }: Text, id: number): Text {
  const at = after(grammar, state, id);
  if (since === FAR_TOKENS) return placed(grammar, at, count + 1);
  const path = grammar.tokens.path(place, id);
  if (path === null) throw new Error(`token ${id} follows from a state, and not from its place`);
  const near = since === null ? null : since + 1;
  return { grammar, state: at, place: path.at(-1)!, since: near, path, count: count + 1 };
}

function after(grammar: Grammar, state: State, id: number): State {
  const to = grammar.tokens.after(state, id);
  if (to === null) throw new Error(`token ${id} does not follow in a constrained answer`);
  return to;
}

function placed(grammar: Grammar, state: State, count: number): Text {
  const place = grammar.tokens.far(state);
  return { grammar, state, place, since: place === state ? null : 0, path: [], count };
}

function grammarOf(constraint: AnswerConstraint): Grammar {
  if (start === null || trie === null) throw new Error('no vocabulary');
  const key = JSON.stringify(constraint);
  const grammar = grammars.get(key) ?? {
    number: ++lastGrammar,
    tokens: new TokenGrammar(constraint, trie, start.vocabSize, start.endIds),
    states: new Map(),
    masks: new Set(),
    around: new Set(),
    generation: -1,
  };
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
  const { grammar, place, since, state } = text;
  const { number: mask } = grammar.tokens.numberedMask(state);
  const news = newsOf(grammar, text);
  return {
    ...{ generation: `${processId}.${generation}`, grammar: grammar.number, state: place.id, mask, since },
    news,
  };
}

function newsOf(grammar: Grammar, { path, place, state }: Text): GrammarNews {
  const { around, masks: toldMasks, states: toldStates, tokens } = grammar;
  const news: GrammarNews = { states: [], masks: [] };
  const tellMask = (mask: NumberedMask): number => {
    if (!toldMasks.has(mask.number)) {
      toldMasks.add(mask.number);
      news.masks.push(toldMask(mask));
      toldBytes += mask.words.byteLength;
    }
    return mask.number;
  };
  if (grammar.generation !== generation) {
    grammar.generation = generation;
    toldStates.clear();
    toldMasks.clear();
    around.clear();
    news.classOf = [...tokens.classOf];
  }
  const own = tellMask(tokens.numberedMask(state));
  const states = new Set(path).add(place);
  if (!around.has(place)) {
    const near = tokens.near(place);
    if (near.isWhole) around.add(place);
    for (const state of near.states) states.add(state);
  }
  for (const near of states) {
    const known = near === place ? own : tokens.knownMask(near)?.number;
    const mask = known !== undefined && toldMasks.has(known) ? known : UNKNOWN;
    // Most were told before: nothing is made of those.
    let unknown = 0;
    for (let byteClass = 0; byteClass < tokens.classCount; byteClass++) {
      if (near.next[byteClass] === undefined) unknown++;
    }
    const how = mask * BYTES + unknown;
    if (toldStates.get(near) === how) continue;
    toldStates.set(near, how);
    const row = [near.id, mask];
    for (let byteClass = 0; byteClass < tokens.classCount; byteClass++) {
      const to = near.next[byteClass];
      row.push(to === undefined ? UNKNOWN : (to?.id ?? NOWHERE));
    }
    toldBytes += BYTES_A_NUMBER * row.length;
    news.states.push(row);
  }
  return news;
}

/** Few ids are told one by one. */
function toldMask({ number, words }: NumberedMask): ToldMask {
  const ids: number[] = [];
  for (let at = 0; at < words.length; at++) {
    for (let bits = words[at]!; bits !== 0; bits &= bits - 1) {
      if (ids.length === MAX_LISTED) {
        return {
          number,
          bits: Buffer.from(words.buffer, words.byteOffset, words.byteLength).toString('base64'),
        };
      }
      ids.push(at * 32 + 31 - Math.clz32(bits & -bits));
    }
  }
  return { number, ids };
}
