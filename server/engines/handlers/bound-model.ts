/**
 * What a handler's code asks of a language model, and how its process is told the answer.
 *
 * In      asks of a handler's process, by number
 * Out     pieces of text as they come, the end, or why there is none
 * Limits  MAX_ASKS of a process at a time
 * Errors  told to the handler: it may catch them
 */
import { ServingError } from '../../../proto/errors.js';
import type { ModelConfig } from '../../config/config.js';
import type { GenerationEvent } from '../../requests/job-events.js';
import type { Accepted } from '../../requests/service.js';
import type { FromHandler, ToHandler } from './handler-messages.js';

const MAX_ASKS = 1024;

export interface AskedText {
  text: string;
  /** LMI's. */
  parameters: Readonly<Record<string, unknown>>;
}

/** A language model that belongs to a handler. */
export interface BoundModel {
  /** @throws ServingError */
  generate(asked: AskedText, signal: AbortSignal): Promise<Accepted<GenerationEvent>>;
  close(): Promise<void>;
}

/** @throws ServingError: nothing is left of it */
export type OpenBoundModel = (config: ModelConfig, signal: AbortSignal) => Promise<BoundModel>;

type Ask = Extract<FromHandler, { kind: 'ask' }>;
type Told = Extract<ToHandler, { kind: 'told' }>;

/** The asks of one process. */
export class BoundAsks {
  readonly #model: BoundModel | null;
  readonly #tell: (message: Told) => void;
  readonly #running = new Map<number, AbortController>();

  constructor(model: BoundModel | null, tell: (message: Told) => void) {
    this.#model = model;
    this.#tell = tell;
  }

  /** true: it was an ask, or its end. */
  heard(message: FromHandler): boolean {
    if (message.kind === 'unask') this.#running.get(message.ask)?.abort();
    else if (message.kind === 'ask') void this.#answer(message);
    else return false;
    return true;
  }

  /** The process is gone. */
  abort(): void {
    for (const running of this.#running.values()) running.abort();
  }

  async #answer({ ask, parameters, text }: Ask): Promise<void> {
    const abort = new AbortController();
    try {
      if (this.#model === null) {
        throw new ServingError(
          'BAD_REQUEST',
          'This handler has no language model: option.model_id of its serving.properties names one',
        );
      }
      if (this.#running.size >= MAX_ASKS)
        throw new ServingError(
          'QUEUE_FULL',
          `A handler asks its model for at most ${MAX_ASKS} texts at a time`,
        );
      this.#running.set(ask, abort);
      const { events, promptTokens } = await this.#model.generate({ text, parameters }, abort.signal);
      for await (const event of events) {
        if (event.kind === 'finish') {
          const { generatedText, newTokens, reason, text: rest } = event;
          if (rest !== '') this.#tell({ kind: 'told', ask, piece: rest });
          this.#tell({ kind: 'told', ask, end: { text: generatedText, newTokens, promptTokens, reason } });
        } else if (event.kind === 'token' && event.text !== '') {
          this.#tell({ kind: 'told', ask, piece: event.text });
        }
      }
    } catch (error) {
      const { code, message } = ServingError.from(error);
      this.#tell({ kind: 'told', ask, failure: { code, message } });
    } finally {
      this.#running.delete(ask);
    }
  }
}
