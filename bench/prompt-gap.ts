/**
 * What a long prompt does to the streams that run already: the largest pause between two of their tokens while it is
 * prefilled in chunks beside them. Through the server's batch loop, continuous batcher and chunk budget.
 *
 * In      a running group
 * Out     milliseconds: the gap that is allowed, the streams' usual gap, the largest gap during the prompt, the prompt's time to its
 *         first token
 */
import { BatchLoop } from '../server/batching/batch-loop.js';
import type { SteppedGroup } from '../server/batching/batch-loop-options.js';
import { ChunkBudget, type Scheduling } from '../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../server/batching/continuous-batcher.js';
import { SlotTable } from '../server/batching/slot-table.js';
import { systemClock } from '../server/jobs/clock.js';
import type { GenerationJob } from '../server/jobs/generation-job.js';
import { clientLeft } from '../server/jobs/job.js';
import { JobQueue } from '../server/jobs/job-queue.js';
import { madeUpIds, makeJob, NO_TEXTS } from './made-up-jobs.js';
import { type Spread, spread } from './spread.js';

export interface PromptGapReport {
  streams: number;
  promptTokens: number;
  /** The pause that is allowed. */
  gapMs: number;
  /** Between two tokens of a stream before the prompt came. */
  usualGapMs: Spread;
  /** The largest gap of any stream while the prompt ran, one value a repetition. */
  largestGapMs: Spread;
  firstTokenMs: Spread;
}

const STREAM_PROMPT_TOKENS = 16;
/** More than a stream makes while the prompt runs. */
const STREAM_NEW_TOKENS = 400;
/** Positions a stream may take. */
export const GAP_STREAM_TOKENS = STREAM_PROMPT_TOKENS + STREAM_NEW_TOKENS;
/** Tokens that a stream has made before the prompt comes. */
const USUAL_TOKENS = 24;

export async function measurePromptGap(
  stepped: SteppedGroup,
  options: {
    streams: number;
    promptTokens: number;
    maxStepTokens: number;
    repeat: number;
    gapMs: number;
    scheduling: Scheduling;
  },
): Promise<PromptGapReport> {
  const { gapMs, maxStepTokens, promptTokens, repeat, scheduling, streams } = options;
  const queue = new JobQueue<GenerationJob>('bench', streams + 1, 600_000);
  const loop = new BatchLoop({
    group: stepped,
    queue,
    batcher: new ContinuousBatcher(),
    slots: new SlotTable(streams + 1, 1_000_000),
    chunkBudget: new ChunkBudget({ gapMs, scheduling, maxTokens: maxStepTokens }),
    texts: NO_TEXTS,
    clock: systemClock,
  });
  const ended = loop.run();
  let id = 0;
  const submit = (tokens: number, maxNewTokens: number): GenerationJob => {
    const job = makeJob(++id, madeUpIds(id, tokens), maxNewTokens);
    queue.push(job);
    return job;
  };
  const usual: number[] = [];
  const largest: number[] = [];
  const firstTokens: number[] = [];
  // All rounds count: the chunk budget has to learn the machine's speed without harm, too.
  for (let round = 0; round < repeat; round++) {
    const running = Array.from({ length: streams }, () => submit(STREAM_PROMPT_TOKENS, STREAM_NEW_TOKENS));
    const watches = running.map((job) => watchTokens(job));
    await Promise.all(watches.map((watch) => watch.until(USUAL_TOKENS)));
    const before = watches.flatMap((watch) => watch.gapsMs(4, USUAL_TOKENS));
    const started = performance.now();
    const prompt = submit(promptTokens, 1);
    const counts = watches.map((watch) => watch.count);
    await prompt.ended;
    const firstTokenMs = performance.now() - started;
    await Promise.all(watches.map((watch) => watch.until(watch.count + 2)));
    const during = watches.flatMap((watch, index) => watch.gapsMs(counts[index] ?? 0, watch.count));
    for (const job of running) job.cancel(clientLeft());
    await Promise.all(watches.map((watch) => watch.ended));
    usual.push(...before);
    largest.push(Math.max(...during));
    firstTokens.push(firstTokenMs);
  }
  loop.stop();
  await ended;
  return {
    streams,
    promptTokens,
    gapMs,
    usualGapMs: spread(usual),
    largestGapMs: spread(largest),
    firstTokenMs: spread(firstTokens),
  };
}

interface TokenWatch {
  /** Tokens seen. */
  readonly count: number;
  /** Resolves when the reader has stopped. */
  readonly ended: Promise<void>;
  until(count: number): Promise<void>;
  /** Between the tokens `from` … `to` − 1 and the one before each. */
  gapsMs(from: number, to: number): number[];
}

/** Reads a job's stream and notes when each token came. */
function watchTokens(job: GenerationJob): TokenWatch {
  const times: number[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  const read = async (): Promise<void> => {
    for await (const event of job.stream) {
      if (event.kind !== 'token') continue;
      times.push(performance.now());
      for (const waiter of waiting.splice(0)) {
        if (waiter.count <= times.length) waiter.resolve();
        else waiting.push(waiter);
      }
    }
  };
  return {
    get count() {
      return times.length;
    },
    // It ends with the cancellation.
    ended: read().catch(() => {}),
    until: (count) =>
      times.length >= count ? Promise.resolve() : new Promise((resolve) => waiting.push({ count, resolve })),
    gapsMs: (from, to) =>
      times
        .slice(Math.max(1, from), to)
        .map((time, index) => time - (times[Math.max(1, from) + index - 1] ?? time)),
  };
}
