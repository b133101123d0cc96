/**
 * A model's tokenizer in processes of their own: its expressions come with the checkpoint and may run without end.
 *
 * In      a checkpoint's folder; texts, which wait in line
 * Out     ids; at the start the table for the half that stays in the server (text/detokenizer.ts), and what the checkpoint's other files of
 *         text say: they may hold anything, so the server does not read them itself
 * Limits  TokenizerLimits. A text longer than LONG_CHARACTERS goes to a second process, which starts with the first of them: a chat does
 *         not wait behind a book. The lines are as long as the pool lets requests be encoded at once
 * Errors  CHECKPOINT_INVALID: it does not load, or not within its limits; TOKENIZER_LIMIT: a text takes more; those of limited-process.ts
 */
import { fileURLToPath } from 'node:url';
import { ServingError } from '../../../proto/errors.js';
import { LimitedProcess } from './limited-process.js';
import type { FirstTask, TokenizerFacts, TokenizeTask } from './tokenizer-program.js';

export interface TokenizerLimits {
  /** Reading the files. */
  loadMs: number;
  encodeMs: number;
  encodeMsPerKilocharacter: number;
  /** Heap of a process. */
  memoryMb: number;
}

/**
 * The worst of hostile texts with the worst of 22 tokenizers takes 4 ms a thousand characters (text/README.md). How long the largest
 * vocabularies in use take to load, and how much heap, has not been measured: loadMs and memoryMb are guesses on the safe side.
 */
const LIMITS: TokenizerLimits = {
  loadMs: 30_000,
  encodeMs: 3000,
  encodeMsPerKilocharacter: 40,
  memoryMb: 1024,
};

const LONG_CHARACTERS = 8192;
/** More than loadMs: on a machine with many others a process may wait for a core. */
const START_MS = 60_000;

const PROGRAM = fileURLToPath(new URL('./tokenizer-program.js', import.meta.url));

type Process = LimitedProcess<FirstTask, TokenizeTask>;

export class TokenizerProcess {
  readonly facts: TokenizerFacts;
  readonly #limits: TokenizerLimits;
  readonly #short: Process;
  readonly #long: Process;

  private constructor(facts: TokenizerFacts, short: Process, long: Process, limits: TokenizerLimits) {
    this.facts = facts;
    this.#short = short;
    this.#long = long;
    this.#limits = limits;
  }

  /**
   * @param chatTemplate instead of the checkpoint's; null: that
   * @throws ServingError CHECKPOINT_INVALID
   */
  static async start(
    modelFolder: string,
    limits: TokenizerLimits = LIMITS,
    chatTemplate: string | null = null,
  ): Promise<TokenizerProcess> {
    const process = (): Process =>
      new LimitedProcess(
        {
          program: PROGRAM,
          memoryMb: limits.memoryMb,
          limitCode: 'TOKENIZER_LIMIT',
          what: "model's tokenizer",
          over: 'this text or over its own files',
          startMs: Math.max(START_MS, 2 * limits.loadMs),
        },
        { task: { modelFolder, chatTemplate }, limitMs: limits.loadMs },
      );
    const short = process();
    try {
      return new TokenizerProcess(await short.start<TokenizerFacts>(), short, process(), limits);
    } catch (error) {
      await short.close();
      if (!(error instanceof ServingError) || error.code !== 'TOKENIZER_LIMIT') throw error;
      throw new ServingError('CHECKPOINT_INVALID', error.message, { cause: error });
    }
  }

  /** @throws ServingError */
  encode(text: string, addSpecialTokens: boolean, signal?: AbortSignal): Promise<number[]> {
    const { encodeMs, encodeMsPerKilocharacter } = this.#limits;
    const limitMs = Math.ceil(encodeMs + (encodeMsPerKilocharacter * text.length) / 1000);
    const process = text.length > LONG_CHARACTERS ? this.#long : this.#short;
    return process.ask({ task: { text, addSpecialTokens }, limitMs }, signal);
  }

  /** Texts that are in line are refused. */
  async close(): Promise<void> {
    await Promise.all([this.#short.close(), this.#long.close()]);
  }
}
