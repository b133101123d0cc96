/**
 * How much sooner the first token comes when the beginning of a prompt is in the prefix cache: through the server's batch loop
 * and real shard workers, without text and HTTP.
 *
 * In      see HELP
 * Out     of each pair the time to first token of a new prefix, and of the same one with another question behind it; how many
 *         greedy texts were the same without the cache. The last line is JSON, {"ratio": …}: the median of the pairs
 * Errors  a ServingError's message and exit code 1
 */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { shapeFolder } from '../partitioner/named-shapes.js';
import { partition } from '../partitioner/partition.js';
import type { Dtype } from '../partitioner/quantise/weight-format.js';
import { BatchLoop } from '../server/batching/batch-loop.js';
import { ChunkBudget } from '../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../server/batching/continuous-batcher.js';
import { PrefixCache } from '../server/batching/prefix-cache.js';
import { SlotTable } from '../server/batching/slot-table.js';
import { systemClock } from '../server/jobs/clock.js';
import type { GenerationJob } from '../server/jobs/generation-job.js';
import { JobQueue } from '../server/jobs/job-queue.js';
import { usableCores } from '../server/machine/machine-limits.js';
import { GroupUnderTest } from './group-under-test.js';
import { madeUpIds, makeJob, NO_TEXTS } from './made-up-jobs.js';
import { spread } from './spread.js';

const HELP = `Usage: npm run bench:prefix -- [options]

  --model NAME    a named shape, with random weights (default tinyllama-1.1b), or a checkpoint's folder
  --dtype D       fp32, int8 or int4 (default int4)
  --tp N          degree (default 2)
  --prefix N      tokens that the two prompts share (default 400)
  --question N    tokens behind them (default 16)
  --repeat N      pairs (default 7)`;

const GAP_MS = 500;
const MAX_STEP_TOKENS = 512;
const NEW_TOKENS = 16;
const SLOTS = 4;

interface Answer {
  firstTokenMs: number;
  ids: number[];
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      model: { type: 'string', default: 'tinyllama-1.1b' },
      dtype: { type: 'string', default: 'int4' },
      tp: { type: 'string', default: '2' },
      prefix: { type: 'string', default: '400' },
      question: { type: 'string', default: '16' },
      repeat: { type: 'string', default: '7' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const tp = Number(values.tp);
  const isCheckpoint = existsSync(values.model);
  const { manifest, shardFolder } = await partition({
    folder: isCheckpoint ? values.model : shapeFolder(values.model),
    outStore: path.join(tmpdir(), 'shardserve-bench'),
    tp,
    dtype: values.dtype as Dtype,
    blockSize: 128,
    randomWeights: !isCheckpoint,
  });
  const prefixTokens = Number(values.prefix);
  const questionTokens = Number(values.question);
  const group = await GroupUnderTest.start({
    shardFolder,
    manifest,
    workerProgram: fileURLToPath(new URL('../shard-worker/main.js', import.meta.url)),
    threads: Math.max(1, Math.floor(usableCores() / tp)),
    maxSlots: SLOTS,
    warmSlots: SLOTS,
    slotTokens: prefixTokens + questionTokens + NEW_TOKENS,
    maxStepTokens: MAX_STEP_TOKENS,
    collective: 'auto',
  });
  try {
    const ratios: number[] = [];
    let alike = 0;
    const ask = asker(group);
    // The first round teaches the chunk budget the machine's speed.
    for (let round = 0; round <= Number(values.repeat); round++) {
      const prefix = madeUpIds(10 * round + 1, prefixTokens);
      const prompt = (question: number): number[] => [
        ...prefix,
        ...madeUpIds(10 * round + question, questionTokens),
      ];
      const cold = await ask(prompt(2));
      const warm = await ask(prompt(3));
      const whole = await ask(prompt(3), `alone-${round}`);
      if (round === 0) continue;
      ratios.push(warm.firstTokenMs / cold.firstTokenMs);
      if (warm.ids.every((id, index) => id === whole.ids[index])) alike++;
      console.log(
        `first token: new ${cold.firstTokenMs.toFixed(1)} ms, again ${warm.firstTokenMs.toFixed(1)} ms`,
      );
    }
    await ask.stop();
    console.log(`${alike} of ${ratios.length} greedy texts of ${NEW_TOKENS} tokens as without the cache`);
    console.log(JSON.stringify({ ratio: Number(spread(ratios).median.toFixed(3)) }));
    return 0;
  } finally {
    await group.stop();
  }
}

/** Runs one prompt after the other through a batch loop of its own. @returns also `stop` */
function asker(group: GroupUnderTest): {
  (promptIds: readonly number[], cacheSalt?: string): Promise<Answer>;
  stop(): Promise<void>;
} {
  const queue = new JobQueue<GenerationJob>('bench', SLOTS, 600_000);
  const slots = new SlotTable(SLOTS, 1_000_000, SLOTS);
  const loop = new BatchLoop({
    group: group.stepped,
    queue,
    batcher: new ContinuousBatcher(),
    slots,
    prefixCache: new PrefixCache({ slots, longAfterTokens: null }),
    chunkBudget: new ChunkBudget({ gapMs: GAP_MS, scheduling: 'balanced', maxTokens: MAX_STEP_TOKENS }),
    texts: NO_TEXTS,
    clock: systemClock,
  });
  const ended = loop.run();
  let number = 0;
  const ask = async (promptIds: readonly number[], cacheSalt?: string): Promise<Answer> => {
    const started = performance.now();
    const job = makeJob(++number, promptIds, NEW_TOKENS, cacheSalt);
    queue.push(job);
    const answer: Answer = { firstTokenMs: Number.NaN, ids: [] };
    for await (const event of job.stream) {
      if (event.kind !== 'token') continue;
      if (answer.ids.length === 0) answer.firstTokenMs = performance.now() - started;
      answer.ids.push(event.tokenId);
    }
    return answer;
  };
  const stop = async (): Promise<void> => {
    loop.stop();
    await ended;
  };
  return Object.assign(ask, { stop });
}
