/**
 * A server under mixed load for as long as one likes: clients of several dialects, models that come and go, faults; what it holds is
 * looked at all the while.
 *
 * In      how long; how often a fault strikes
 * Out     resident memory, descriptors, processes and files in its early and late thirds; the same with leaks planted at the end
 * Limits  memory is read after a full collection (server-preload.ts); the first sixth is warming up and does not count
 * Errors  an answer that is not what the request calls for is counted, with its sentence
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describedModel } from '../support/described-groups.js';
import {
  type Footprint,
  footprint,
  leakMegabyte,
  MEASURED_ENVIRONMENT,
  median,
  registerCycle,
  residentBytes,
} from '../support/register-cycles.js';
import { isRunning, ServerProcess } from '../support/server-process.js';
import { ask, WAYS } from './ask.js';

export interface SoakOptions {
  minutes: number;
  faultEverySeconds: number;
  onProgress?: (sentence: string) => void;
}

export interface SoakResult {
  requests: number;
  wrong: number;
  problems: string[];
  faults: number;
  models: number;
  early: Held;
  late: Held;
  /** Ten megabytes more that nothing frees. */
  leaking: Held;
}

/** Medians, of a part of the run. */
export interface Held {
  residentMb: number;
  sockets: number;
  files: number;
  processes: number;
  temporary: number;
}

/** Above it something grows. */
export const MOST_GROWTH = 1.05;
export const PLANTED_MEGABYTES = 10;
const CLIENTS = 4;
const SAMPLES = 60;
/** A fourth of the samples: heaps and caches grow to what the load needs. */
const WARM_UP = 4;
const MOST_LEAK_MS = 300_000;
const PROMPT = 'Once upon a time there was a little dog who';
const GREEDY = { do_sample: false, ignore_eos_token: true };
const RANKS = 2;

interface Sample extends Footprint {
  residentBytes: number;
}

export async function soak({
  faultEverySeconds,
  minutes,
  onProgress = () => {},
}: SoakOptions): Promise<SoakResult> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'soak-'));
  const server = await ServerProcess.start({
    ...MEASURED_ENVIRONMENT,
    ...{
      TENSOR_PARALLEL_DEGREE: String(RANKS),
      OPTION_THREADS_PER_RANK: '1',
      SERVING_RETRY_THRESHOLD: '1000',
    },
    ...{ TMPDIR: scratch, SERVING_LOG_LEVEL: 'info' },
  });
  try {
    const load = new Load(server);
    await load.learn();
    const endMs = performance.now() + minutes * 60_000;
    const samples: Sample[] = [];
    const everyMs = (minutes * 60_000) / SAMPLES;
    const under = (over: () => boolean, look: () => Promise<void>): Promise<unknown> =>
      Promise.all([
        ...Array.from({ length: CLIENTS }, (_, index) => load.client(index, over)),
        load.comeAndGo(over),
        load.strike(faultEverySeconds * 1000, over),
        (async () => {
          while (!over()) await look();
        })(),
      ]);
    await under(
      () => performance.now() >= endMs,
      async () => {
        samples.push({ ...footprint(server, scratch), residentBytes: await residentBytes(server) });
        const { residentBytes: bytes } = samples.at(-1)!;
        onProgress(
          `${samples.length}: ${(bytes / 2 ** 20).toFixed(1)} MB, ${load.requests} requests, ${load.faults} faults`,
        );
        await pause(everyMs);
      },
    );
    const counted = samples.slice(Math.floor(samples.length / WARM_UP));
    const third = Math.max(1, Math.floor(counted.length / 3));
    for (let leak = 0; leak < PLANTED_MEGABYTES; leak++) await leakMegabyte(server);
    const leaking: Sample[] = [];
    const leakEndMs = performance.now() + Math.min(third * everyMs, MOST_LEAK_MS);
    // Under the same load: with less of it the server holds less, and the leak would not be seen.
    await under(
      () => performance.now() >= leakEndMs,
      async () => {
        leaking.push({ ...footprint(server, scratch), residentBytes: await residentBytes(server) });
        await pause(Math.min(everyMs, 2000));
      },
    );
    return {
      ...{
        requests: load.requests,
        wrong: load.wrong,
        problems: load.problems,
        faults: load.faults,
        models: load.models,
      },
      ...{
        early: heldIn(counted.slice(0, third)),
        late: heldIn(counted.slice(-third)),
        leaking: heldIn(leaking),
      },
    };
  } finally {
    server.kill('SIGKILL');
    await server.exited;
    rmSync(scratch, { recursive: true, force: true });
  }
}

class Load {
  requests = 0;
  wrong = 0;
  faults = 0;
  models = 0;
  readonly problems: string[] = [];
  readonly #server: ServerProcess;
  #text = '';

  constructor(server: ServerProcess) {
    this.#server = server;
  }

  /** What the one text is that everybody asks for. */
  async learn(): Promise<void> {
    const response = await this.#server.post('/predictions/embedded', {
      inputs: PROMPT,
      parameters: { max_new_tokens: 24, ...GREEDY },
    });
    this.#text = ((await response.json()) as { generated_text: string }).generated_text;
  }

  /** One request after the other: every dialect and way, some that leave early, some that are refused. */
  async client(index: number, isOver: () => boolean): Promise<void> {
    for (let turn = index; !isOver(); turn++) {
      this.requests++;
      try {
        const problem = await this.#one(turn);
        if (problem !== null) this.#tell(problem);
      } catch (error) {
        this.#tell(String(error));
      }
    }
  }

  /** Models are registered, asked and unregistered. */
  async comeAndGo(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      this.models++;
      await registerCycle(this.#server, `guest_${this.models}`).catch((error: unknown) =>
        this.#tell(String(error)),
      );
      await pause(5000);
    }
  }

  /** A rank of the model that stays is killed or stopped, in turns. */
  async strike(everyMs: number, isOver: () => boolean): Promise<void> {
    for (; !isOver(); await pause(Math.min(everyMs, 1000))) {
      if (performance.now() < this.#nextFaultMs) continue;
      this.#nextFaultMs = performance.now() + everyMs;
      const groups = await describedModel(this.#server).then(
        (described) => described.groups,
        // Its next look is a second later.
        () => [],
      );
      const pids = groups.flatMap((group) => group.pids).filter((pid) => pid !== null);
      const pid = pids[this.faults % Math.max(1, pids.length)];
      if (pid === undefined || !isRunning(pid)) continue;
      this.faults++;
      process.kill(pid, this.faults % 2 === 0 ? 'SIGSTOP' : 'SIGKILL');
    }
  }

  #nextFaultMs = 0;

  /** null: as it should be. */
  async #one(turn: number): Promise<string | null> {
    const { url } = this.#server;
    const parameters = { max_new_tokens: 24, ...GREEDY };
    switch (turn % 7) {
      case 0:
      case 1:
      case 2: {
        const way = WAYS[turn % WAYS.length]!;
        const { content, problem } = await ask(url, { id: `soak-${turn}`, way, prompt: PROMPT, parameters });
        if (problem !== null) return problem;
        return content.includes(JSON.stringify(this.#text).slice(1, -1))
          ? null
          : `another text: ${content.slice(-200)}`;
      }
      case 3: {
        const body = { model: 'embedded', prompt: PROMPT, max_tokens: 24, temperature: 0, ignore_eos: true };
        const response = await this.#server.post('/v1/completions', body);
        const { choices } = (await response.json()) as { choices?: { text: string }[] };
        return choices?.[0]?.text === this.#text ? null : `another completion: ${JSON.stringify(choices)}`;
      }
      case 4: {
        // A client that leaves.
        const abort = new AbortController();
        const left = this.#server
          .post(
            '/predictions/embedded',
            { inputs: PROMPT, stream: true, parameters: { ...parameters, max_new_tokens: 300 } },
            abort.signal,
          )
          .then((response) => response.body?.getReader().read());
        await left.catch(() => {});
        abort.abort();
        return null;
      }
      case 5: {
        const { status } = await this.#server.post('/v1/completions', {
          model: 'embedded',
          prompt: 7,
          max_tokens: -1,
        });
        return status === 400 ? null : `a bad request got ${status}`;
      }
      default: {
        const response = await fetch(`${url}/metrics`);
        return (await response.text()).includes('shardserve_') ? null : 'no metrics';
      }
    }
  }

  #tell(problem: string): void {
    this.wrong++;
    if (this.problems.length < 20) this.problems.push(problem);
  }
}

function heldIn(samples: readonly Sample[]): Held {
  const of = (value: (sample: Sample) => number): number => median(samples.map(value));
  return {
    residentMb: of(({ residentBytes: bytes }) => bytes / 2 ** 20),
    sockets: of(({ sockets }) => sockets),
    files: of(({ files }) => files),
    processes: of(({ processes }) => processes),
    temporary: of(({ temporary }) => temporary.length),
  };
}

/** Sentences on what has grown; none: all is flat. */
export function grownIn({ early, late }: Pick<SoakResult, 'early' | 'late'>): string[] {
  const grown: string[] = [];
  if (late.residentMb > early.residentMb * MOST_GROWTH)
    grown.push(`resident memory: ${early.residentMb.toFixed(1)} MB, then ${late.residentMb.toFixed(1)}`);
  // A model that comes or goes just then, or a connection that closes.
  const slack = { sockets: 12, files: 4, processes: RANKS + 2, temporary: 2 } as const;
  for (const key of ['sockets', 'files', 'processes', 'temporary'] as const)
    if (late[key] > early[key] + slack[key]) grown.push(`${key}: ${early[key]}, then ${late[key]}`);
  return grown;
}
