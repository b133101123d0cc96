/**
 * Constrained answers of one model: which tokens may come next, worked out in a process of its own beside the steps: a client's grammar may
 * take long, and what it takes must be nobody else's.
 *
 * In      what form an answer shall have; its tokens as they are chosen
 * Out     masks. Where texts have been before they are known here (known-grammar.ts), at once; else the process is asked. What texts that
 *         have begun ask while it works goes to it together, before texts that are to begin, which go one by one: a form that takes long
 *         holds up each of the others once
 * Limits  OPEN_MS for a grammar and its first mask, NEXT_MS for each that follows, of processor time; MEMORY_MB of heap. The process starts with
 *         the first answer
 * Errors  BAD_REQUEST: a form that is none or takes too much; STEP_TIMEOUT: the machine has other work; those of limited-process.ts. A process that died is started again, and the
 *         answers go on
 */
import { fileURLToPath } from 'node:url';
import type { TokenMask } from '../../../proto/control.js';
import { isErrorCode, ServingError } from '../../../proto/errors.js';
import type { TokenConstraint } from '../../jobs/generation-job.js';
import { clientLeft } from '../../jobs/job.js';
import type { AnswerConstraint } from '../../requests/answer-constraint.js';
import { FAR_TOKENS } from '../../text/constraint/machine.js';
import { Detokenizer } from '../../text/detokenizer.js';
import type {
  ConstraintAsk,
  ConstraintOutcome,
  ConstraintStart,
  ConstraintTask,
} from './constraint-messages.js';
import { KnownGrammar } from './known-grammar.js';
import { LimitedProcess } from './limited-process.js';

const OPEN_MS = 5000;
const NEXT_MS = 1000;
const START_MS = 60_000;
const MEMORY_MB = 1024;

const PROGRAM = fileURLToPath(new URL('./constraint-program.js', import.meta.url));

interface Waiting {
  ask: ConstraintAsk;
  /** Who asks for a text that begins. */
  client?: AbortSignal | undefined;
  /** null: the process does not know the text. */
  done: (place: Place | null) => void;
  failed: (error: unknown) => void;
}

export class Constrainer {
  readonly #process: LimitedProcess<ConstraintStart, ConstraintTask>;
  readonly #waiting: Waiting[] = [];
  #ended: number[] = [];
  #isAsking = false;
  #texts = 0;
  readonly #bytesOf: (id: number) => Uint8Array | null;
  #generation = '';
  #grammars = new Map<number, KnownGrammar>();

  constructor(start: ConstraintStart) {
    const texts = new Detokenizer(start.table);
    this.#bytesOf = (id) => texts.tokenBytes(id);
    this.#process = new LimitedProcess(
      {
        program: PROGRAM,
        memoryMb: MEMORY_MB,
        limitCode: 'BAD_REQUEST',
        what: 'grammar of the answer',
        over: 'the form that is asked of it',
        startMs: START_MS,
      },
      { task: start, limitMs: START_MS },
    );
  }

  /** @throws ServingError BAD_REQUEST */
  async open(constraint: AnswerConstraint, signal: AbortSignal): Promise<TokenConstraint> {
    const text = ++this.#texts;
    const place = await this.#place({ kind: 'open', text, constraint, ids: [] }, signal);
    const release = (): void => {
      this.#ended.push(text);
    };
    if (signal.aborted) {
      release();
      throw clientLeft();
    }
    const known = new KnownText(place, this.#bytesOf);
    return {
      first: place.mask,
      maskAfter: (ids) => known.maskAfter(ids) ?? this.#maskAfter(text, constraint, known, [...ids]),
      release,
    };
  }

  async #maskAfter(
    text: number,
    constraint: AnswerConstraint,
    known: KnownText,
    ids: readonly number[],
  ): Promise<TokenMask> {
    const ask = { kind: 'next', text, ids: ids.slice(known.toldTokens), count: ids.length } as const;
    // The process is a new one, or a token was told to the one before it.
    const place = (await this.#ask(ask)) ?? (await this.#place({ kind: 'open', text, constraint, ids }));
    known.goOn(place, ids.length);
    return place.mask;
  }

  close(): Promise<void> {
    return this.#process.close();
  }

  async #place(ask: ConstraintAsk, client?: AbortSignal): Promise<Place> {
    const place = await this.#ask(ask, client);
    if (place === null) throw new Error('a text was forgotten that has just begun');
    return place;
  }

  /** In the order in which they were told: one may rest on another's news. @throws ServingError */
  #read(outcome: ConstraintOutcome): Place | null {
    if ('isUnknown' in outcome) return null;
    if ('code' in outcome) {
      throw new ServingError(isErrorCode(outcome.code) ? outcome.code : 'INTERNAL', outcome.message);
    }
    const { generation, news, since, state } = outcome;
    if (generation !== this.#generation) this.#grammars = new Map();
    this.#generation = generation;
    let grammar = this.#grammars.get(outcome.grammar);
    if (grammar === undefined) {
      grammar = new KnownGrammar();
      this.#grammars.set(outcome.grammar, grammar);
    }
    grammar.learn(news);
    const mask = grammar.mask(outcome.mask);
    if (mask === null) throw new Error(`mask ${outcome.mask} was never told`);
    return { grammar, mask, state, since };
  }

  #ask(ask: ConstraintAsk, client?: AbortSignal): Promise<Place | null> {
    return new Promise((done, failed) => {
      this.#waiting.push({ ask, client, done, failed });
      if (!this.#isAsking) void this.#askAll();
    });
  }

  async #askAll(): Promise<void> {
    this.#isAsking = true;
    // What is asked in the same turn goes together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const together = this.#next();
      if (together[0]!.client?.aborted === true) {
        together[0]!.failed(clientLeft());
        continue;
      }
      try {
        await this.#send(together);
      } catch (error) {
        if (together.length === 1) together[0]!.failed(error);
        // One of them took too much: each by itself, so that the others go on.
        else for (const one of together) await this.#send([one]).catch(one.failed);
      }
    }
    this.#isAsking = false;
  }

  /** All that have begun, else the first that is to begin. */
  #next(): Waiting[] {
    const begun = this.#waiting.filter(({ ask }) => isBegun(ask));
    if (begun.length === 0) return this.#waiting.splice(0, 1);
    const rest = this.#waiting.filter(({ ask }) => !isBegun(ask));
    this.#waiting.splice(0, this.#waiting.length, ...rest);
    return begun;
  }

  async #send(together: readonly Waiting[]): Promise<void> {
    const ended = this.#ended;
    this.#ended = [];
    const limitMs = together.reduce((sum, { ask }) => sum + (ask.kind === 'open' ? OPEN_MS : NEXT_MS), 0);
    const asks = together.map(({ ask }) => ask);
    const outcomes = await this.#process.ask<ConstraintOutcome[]>({ task: { asks, ended }, limitMs });
    for (const [index, outcome] of outcomes.entries()) {
      const { done, failed } = together[index]!;
      try {
        done(this.#read(outcome));
      } catch (error) {
        failed(error);
      }
    }
  }
}

/** Also one that goes on in a new process. */
const isBegun = (ask: ConstraintAsk): boolean => ask.kind === 'next' || ask.ids.length > 0;

/** Where a text is, as far as its grammar is known here. */
interface Place {
  grammar: KnownGrammar;
  state: number;
  mask: TokenMask;
  /** Tokens since the state was exact; null: it is. */
  since: number | null;
}

/** A text that is followed. */
class KnownText {
  /** Tokens that the process has of it. */
  toldTokens = 0;
  readonly #bytesOf: (id: number) => Uint8Array | null;
  #place: Place;
  #count = 0;

  constructor(place: Place, bytesOf: (id: number) => Uint8Array | null) {
    this.#place = place;
    this.#bytesOf = bytesOf;
  }

  /** null: it is not known. */
  maskAfter(ids: readonly number[]): TokenMask | null {
    const { grammar, since, state } = this.#place;
    const bytes = this.#bytesOf(ids.at(-1)!);
    if (ids.length !== this.#count + 1 || since === FAR_TOKENS || bytes === null) return null;
    const next = grammar.after(state, bytes);
    const mask = next === null ? null : grammar.maskAt(next);
    if (next === null || mask === null) return null;
    this.#place = { grammar, mask, state: next, since: since === null ? null : since + 1 };
    this.#count++;
    return mask;
  }

  /** The process has said so. */
  goOn(place: Place, count: number): void {
    this.#place = place;
    this.#count = count;
    this.toldTokens = count;
  }
}
