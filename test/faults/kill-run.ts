/**
 * Many requests while ranks are killed by the clock: none may be lost or wrong.
 *
 * In      how many requests and clients; milliseconds between two kills, null: none
 * Out     how many were lost, wrong or told an error; requests a second; how many ranks were killed
 * How     each client sends one request after the other, of a few prompts whose undisturbed answers are known; a rank of a group
 *         that runs is killed so long after the one before, though no sooner than half of that after its start: where a start takes longer,
 *         nothing would ever run
 */
import { setTimeout as pause } from 'node:timers/promises';
import { describedModel } from '../support/described-groups.js';
import { isRunning, type ServerProcess } from '../support/server-process.js';
import { type Asked, ask, WAYS } from './ask.js';
import { medianOf } from './fault-table.js';

export interface KillRunOptions {
  requests: number;
  clients: number;
  killEveryMs: number | null;
  onProgress?: (done: number) => void;
}

export interface KillRunResult {
  asked: number;
  lost: number;
  wrong: number;
  kills: number;
  requestsPerSecond: number;
  medianMs: number;
  worstMs: number;
  problems: string[];
}

const PROMPTS = [
  'Once upon a time',
  'One day a little boy named Tim',
  'There was a big red ball',
  'The dog and the cat',
  'In a small house near the forest lived',
];
const NEW_TOKENS = 24;
const SEEDS = 4;
/** Between two looks at whether a group runs. */
const LOOK_MS = 20;

export const KILL_RUN_ENVIRONMENT = {
  TENSOR_PARALLEL_DEGREE: '2',
  OPTION_THREADS_PER_RANK: '1',
  // 300 deaths in ten minutes are no sign of a broken model here.
  SERVING_RETRY_THRESHOLD: '1000',
};

/** The n-th request: a prompt, greedy or with a seed, each way in turn. */
function nth(index: number): Asked {
  const seed = Math.floor(index / PROMPTS.length) % SEEDS;
  const sampled = seed === 0 ? { do_sample: false } : { do_sample: true, temperature: 1, seed };
  return {
    id: `request-${index}`,
    way: WAYS[index % WAYS.length]!,
    prompt: PROMPTS[index % PROMPTS.length]!,
    parameters: { max_new_tokens: NEW_TOKENS, ignore_eos_token: true, ...sampled },
  };
}

/** All there are of different requests. */
const DIFFERENT = PROMPTS.length * SEEDS * WAYS.length;

export async function killRun(server: ServerProcess, options: KillRunOptions): Promise<KillRunResult> {
  const { clients, killEveryMs, onProgress, requests } = options;
  const expected: string[] = [];
  for (let index = 0; index < DIFFERENT; index++) {
    const { content, problem } = await ask(server.url, nth(index));
    if (problem !== null) throw new Error(`an undisturbed request has failed: ${problem}`);
    expected.push(content);
  }
  const result = { lost: 0, wrong: 0, problems: [] as string[] };
  const durations: number[] = [];
  let next = 0;
  let done = 0;
  const client = async (): Promise<void> => {
    for (let index = next++; index < requests; index = next++) {
      const startMs = performance.now();
      const { content, problem } = await ask(server.url, nth(index));
      durations.push(performance.now() - startMs);
      if (problem !== null) {
        result.lost++;
        result.problems.push(`request ${index}: ${problem}`);
      } else if (content !== expected[index % DIFFERENT]) {
        result.wrong++;
        result.problems.push(`request ${index}: ${content.slice(-300)}`);
      }
      onProgress?.(++done);
    }
  };
  const over = new AbortController();
  const killing = killEveryMs === null ? null : killRanks(server, killEveryMs, over.signal);
  const startMs = performance.now();
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - startMs) / 1000;
  over.abort();
  const kills = (await killing) ?? 0;
  durations.sort((a, b) => a - b);
  return {
    ...result,
    kills,
    asked: requests,
    requestsPerSecond: requests / seconds,
    medianMs: medianOf(durations),
    worstMs: durations.at(-1)!,
  };
}

/** One after the other, until `over`; a group lives for half of the pause at least. @returns how many */
async function killRanks(server: ServerProcess, everyMs: number, over: AbortSignal): Promise<number> {
  const wait = (ms: number): Promise<void> =>
    pause(Math.max(0, ms), undefined, { signal: over }).catch(() => {});
  for (let kills = 0, lastMs = performance.now(); ; kills++) {
    let pids: number[] = [];
    while (!over.aborted && pids.length === 0) {
      pids = await runningPids(server);
      if (pids.length === 0) await wait(LOOK_MS);
    }
    await wait(Math.max(everyMs / 2, lastMs + everyMs - performance.now()));
    if (over.aborted) return kills;
    lastMs = performance.now();
    const pid = pids[kills % pids.length]!;
    // Its group may have died by itself.
    if (isRunning(pid)) process.kill(pid, 'SIGKILL');
  }
}

async function runningPids(server: ServerProcess): Promise<number[]> {
  const { groups } = await describedModel(server);
  const running = groups.filter(({ state }) => state === 'running');
  return running.flatMap((group) => group.pids).filter((pid) => pid !== null);
}
