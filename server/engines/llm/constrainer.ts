/**
 * Constrained answers of one model: which tokens may come next, worked out in a process of its own beside the steps: a client's grammar may
 * take long, and what it takes must be nobody else's.
 *
 * In      what form an answer shall have; its tokens as they are chosen
 * Out     masks. What texts that have begun ask while the process works goes to it together, before texts that are to begin, which go one
 *         by one: a form that takes long holds up each of the others once
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
import type {
  ConstraintAsk,
  ConstraintOutcome,
  ConstraintStart,
  ConstraintTask,
} from './constraint-program.js';
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
  done: (outcome: ConstraintOutcome) => void;
  failed: (error: unknown) => void;
}

export class Constrainer {
  readonly #process: LimitedProcess<ConstraintStart, ConstraintTask>;
  readonly #waiting: Waiting[] = [];
  #ended: number[] = [];
  #isAsking = false;
  #texts = 0;

  constructor(start: ConstraintStart) {
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
    const first = await this.#mask({ kind: 'open', text, constraint, ids: [] }, signal);
    const release = (): void => {
      this.#ended.push(text);
    };
    if (signal.aborted) {
      release();
      throw clientLeft();
    }
    return {
      first,
      maskAfter: async (ids) => {
        const outcome = await this.#ask({ kind: 'next', text, id: ids.at(-1)!, count: ids.length });
        // The process is a new one, or a token was told to the one before it.
        return 'isUnknown' in outcome ? this.#mask({ kind: 'open', text, constraint, ids }) : maskOf(outcome);
      },
      release,
    };
  }

  close(): Promise<void> {
    return this.#process.close();
  }

  async #mask(ask: ConstraintAsk, client?: AbortSignal): Promise<TokenMask> {
    return maskOf(await this.#ask(ask, client));
  }

  #ask(ask: ConstraintAsk, client?: AbortSignal): Promise<ConstraintOutcome> {
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
    for (const [index, outcome] of outcomes.entries()) together[index]!.done(outcome);
  }
}

/** Also one that goes on in a new process. */
const isBegun = (ask: ConstraintAsk): boolean => ask.kind === 'next' || ask.ids.length > 0;

function maskOf(outcome: ConstraintOutcome): TokenMask {
  if ('ids' in outcome) return { ids: outcome.ids, bits: NO_BITS };
  if ('bits' in outcome) return { ids: [], bits: Buffer.from(outcome.bits, 'base64') };
  if ('isUnknown' in outcome) throw new Error('a constrained answer was forgotten');
  throw new ServingError(isErrorCode(outcome.code) ? outcome.code : 'INTERNAL', outcome.message);
}

const NO_BITS = new Uint8Array();
