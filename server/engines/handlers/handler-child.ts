/**
 * The server's end of a process that runs a handler (handler-process.ts).
 *
 * In      where the handler is; batches, one after the other
 * Out     answers of each batch, heads and chunks as they come; metrics, stacks and printed lines to the log
 * Limits  loading has a deadline, and a batch until its next sign of life: a process that misses one is killed
 * Errors  CHECKPOINT_INVALID: it cannot be loaded; HANDLER_FAILED: it threw; WORKER_FAILED, STEP_TIMEOUT
 */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { ServingError } from '../../../proto/errors.js';
import { type ChildLink, startedChild } from '../child-link.js';
import { BoundAsks, type BoundModel } from './bound-model.js';
import type {
  FromHandler,
  HandlerAnswer,
  HandlerRequest,
  HandlerSetup,
  ToHandler,
} from './handler-messages.js';

const PROGRAM = fileURLToPath(new URL('./handler-process.js', import.meta.url));
/** A share of its memory: buffers and native code have the rest. */
const HEAP_SHARE = 0.75;

type Piece = Extract<FromHandler, { kind: 'head' | 'chunk' }>;

export class HandlerChild {
  /** Resolves with why, when the process is gone without having been stopped. */
  readonly failed: Promise<ServingError>;
  /** Who is told of a handler's metrics, besides the log. */
  onMetric: (line: string) => void = () => undefined;
  readonly #link: ChildLink<ToHandler, FromHandler>;
  readonly #logger: Logger;
  #nextId = 1;

  private constructor(link: ChildLink<ToHandler, FromHandler>, logger: Logger) {
    this.#link = link;
    this.#logger = logger;
    this.failed = link.failed;
  }

  /** @throws ServingError: no process is left */
  static start(
    setup: HandlerSetup,
    bound: BoundModel | null,
    limitMs: number,
    logger: Logger,
    signal: AbortSignal,
  ): Promise<HandlerChild> {
    const program = {
      program: PROGRAM,
      what: 'process of the handler',
      remedy: 'lower option.handler_memory_mb or maxWorkers, or give the server more memory',
      execArgv: [`--max-old-space-size=${Math.floor(setup.memoryMb * HEAP_SHARE)}`],
      onLine: (line: string) => logger.info(`handler: ${line}`),
    };
    return startedChild<ToHandler, FromHandler, HandlerChild>(program, signal, async (link) => {
      const child = new HandlerChild(link, logger);
      const asks = new BoundAsks(bound, (message) => {
        // A handler that waits for its model does not hang.
        link.refresh();
        link.tell(message);
      });
      link.onMessage = (message) => asks.heard(message);
      void link.ended.then(() => asks.abort());
      const answer = await link.ask(
        { kind: 'load', setup },
        { limitMs, missed: 'did not load its handler', onNotice: (notice) => child.#heard(notice) },
      );
      if (answer.kind === 'failed') {
        logger.error({ stack: answer.stack }, 'a handler could not be loaded');
        throw new ServingError(
          'CHECKPOINT_INVALID',
          `The handler ${setup.entry.file} cannot be loaded: ${answer.message}`,
        );
      }
      assert(answer.kind === 'loaded');
      return child;
    });
  }

  get pid(): number | undefined {
    return this.#link.pid;
  }

  get nextId(): number {
    return this.#nextId;
  }

  /** @throws ServingError */
  async run(
    requests: readonly HandlerRequest[],
    limitMs: number,
    onBegun: () => void,
    onPiece: (piece: Piece) => void,
  ): Promise<{ answers: readonly HandlerAnswer[]; us: number }> {
    const id = this.#nextId++;
    const answer = await this.#link.ask(
      { kind: 'run', id, requests },
      {
        ...{ limitMs, missed: 'did not answer', onBegun },
        onNotice: (notice) => {
          if (notice.kind !== 'head' && notice.kind !== 'chunk') return this.#heard(notice);
          onPiece(notice);
          return true;
        },
      },
    );
    if (answer.kind === 'threw') throw new ServingError('HANDLER_FAILED', answer.message);
    assert(answer.kind === 'answered' && answer.id === id, 'batches are answered in order');
    return { answers: answer.answers, us: answer.us };
  }

  /** The client of a request of the batch that runs is gone. */
  left(id: number, index: number): void {
    this.#link.tell({ kind: 'left', id, index });
  }

  stop(): Promise<void> {
    return this.#link.stop();
  }

  /** true: it was no answer. */
  #heard(notice: FromHandler): boolean {
    if (notice.kind === 'metric') {
      this.#logger.info({ metric: notice.line }, 'a metric of a handler');
      this.onMetric(notice.line);
    } else if (notice.kind === 'stack') this.#logger.error({ stack: notice.text }, 'a handler threw');
    else return false;
    return true;
  }
}
