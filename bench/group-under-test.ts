/**
 * One group of shard workers as the server starts it (coordinator, processes, sockets), and what is measured of it.
 *
 * In      a shard folder, threads a rank
 * Out     times of prefill and decode, memory of each rank, load time
 *
 * Steps go through the same calls as the server's batch loop makes, two in flight; only the batch loop itself is left out, so
 * that the shape of every step is known.
 */
import { readFileSync } from 'node:fs';
import pino from 'pino';
import { GREEDY_SAMPLING, type SequenceOpen, type StepResult } from '../proto/control.js';
import type { Manifest } from '../proto/manifest.js';
import type { WorkerLaunch } from '../proto/worker-launch.js';
import type { SteppedGroup } from '../server/batching/batch-loop-options.js';
import { Coordinator } from '../server/coordinator/coordinator.js';
import { usableCores } from '../server/machine/machine-limits.js';
import { LocalLauncher } from '../server/machine/ranks/local-launcher.js';

/** One that runs and one that waits behind it, as the batch loop does. */
const STEPS_IN_FLIGHT = 2;

export interface GroupOptions {
  shardFolder: string;
  manifest: Manifest;
  workerProgram: string;
  threads: number;
  maxSlots: number;
  /** For the prefix cache; absent: none. */
  warmSlots?: number;
  slotTokens: number;
  maxStepTokens: number;
  collective: WorkerLaunch['collective'];
}

export interface RankMemory {
  rank: number;
  /** Proportional set size: shared pages are counted once over all processes. */
  pssBytes: number;
}

/** A rank's load, from its own start to its end. */
export interface RankLoad {
  rank: number;
  /** From the check of the files to the last segment. */
  ms: number;
  /** Bytes of the weights files that it read, a second. */
  bytesPerSecond: number;
  /** Resident, files that were only read included: at most so much at once, and when it was ready. */
  peakBytes: number;
  readyBytes: number;
}

/** Where a decode step's time goes, microseconds a step, as rank 0 sees it. */
export interface StepSplit {
  computeUs: number;
  collectiveUs: number;
  /** The part of collectiveUs in which it waited for a rank that came later (shared memory; 0 over ZeroMQ). */
  skewUs: number;
  chooseUs: number;
}

export class GroupUnderTest {
  readonly worldSize: number;
  /** Until the group was ready, start of its processes included. */
  readonly loadMs: number;
  readonly loads: readonly RankLoad[];
  readonly #coordinator: Coordinator;
  readonly #vocabSize: number;
  readonly #maxStepTokens: number;
  #sequence = 0;

  private constructor(
    coordinator: Coordinator,
    manifest: Manifest,
    maxStepTokens: number,
    loadMs: number,
    rankLoadMs: ReadonlyMap<number, number>,
  ) {
    this.#coordinator = coordinator;
    this.loads = coordinator.pids.map((pid, rank) => {
      const ms = rankLoadMs.get(rank) ?? Number.NaN;
      return {
        rank,
        ms,
        bytesPerSecond: ((manifest.ranks[rank]?.weights.bytes ?? 0) * 1000) / ms,
        peakBytes: statusBytes(pid, 'VmHWM'),
        readyBytes: statusBytes(pid, 'VmRSS'),
      };
    });
    this.worldSize = manifest.worldSize;
    this.loadMs = loadMs;
    this.#vocabSize = manifest.model.vocabSize;
    this.#maxStepTokens = maxStepTokens;
  }

  static async start(options: GroupOptions): Promise<GroupUnderTest> {
    const { manifest, shardFolder, workerProgram, ...sizes } = options;
    const started = performance.now();
    const rankLoadMs = new Map<number, number>();
    const coordinator = await Coordinator.start({
      launch: {
        ...sizes,
        shardFolder,
        worldSize: manifest.worldSize,
        collectiveTimeoutMs: 60_000,
        threadsSpin: sizes.threads > 1,
        collectiveSpinUs: usableCores() < manifest.worldSize ? 0 : 50,
        verifyChecksums: false,
      },
      launcher: new LocalLauncher(workerProgram),
      loadingTimeoutMs: 600_000,
      stepTimeoutMs: 600_000,
      logger: pino({ level: 'info' }, { write: (line: string) => takeLogLine(line, rankLoadMs) }),
    });
    const loadMs = performance.now() - started;
    return new GroupUnderTest(coordinator, manifest, options.maxStepTokens, loadMs, rankLoadMs);
  }

  /** Milliseconds from sending a prompt of `tokens` as one step until its first token is chosen. */
  async prefillMs(tokens: number, slot = 0): Promise<number> {
    const open = this.#open(slot, tokens, 1);
    const started = performance.now();
    await this.#coordinator.step({ closeSlots: [], opens: [open], rows: [row(open, tokens)] });
    const ms = performance.now() - started;
    await this.#coordinator.step({ closeSlots: [open.slot], opens: [], rows: [] });
    return ms;
  }

  /** Milliseconds a step of `sequences` decodes takes, after prompts of `context` tokens; the mean over `steps` steps. */
  async decodeMs(
    sequences: number,
    context: number,
    steps: number,
  ): Promise<{ ms: number; split: StepSplit }> {
    const opens = await this.openDecodes(0, sequences, context, steps + 2);
    await this.runDecodes(opens, 1);
    const measured = await this.runDecodes(opens, steps);
    await this.closeDecodes(opens);
    return measured;
  }

  /** Sequences in slots from `firstSlot` on, their prompts of `context` tokens run. */
  async openDecodes(
    firstSlot: number,
    sequences: number,
    context: number,
    maxNewTokens: number,
  ): Promise<SequenceOpen[]> {
    const opens = Array.from({ length: sequences }, (_, index) =>
      this.#open(firstSlot + index, context, maxNewTokens),
    );
    // One prompt a step at most: 32 prompts in one would be more tokens than a step may have.
    for (const open of opens) {
      let opened: SequenceOpen[] = [open];
      for (let left = context; left > 0; left -= this.#maxStepTokens) {
        const rows = [row(open, Math.min(left, this.#maxStepTokens))];
        await this.#coordinator.step({ closeSlots: [], opens: opened, rows });
        opened = [];
      }
    }
    return opens;
  }

  /** Milliseconds a step with one token of each takes, the mean over `steps` steps. */
  async runDecodes(opens: readonly SequenceOpen[], steps: number): Promise<{ ms: number; split: StepSplit }> {
    const plan = { closeSlots: [], opens: [], rows: opens.map((open) => row(open, 1)) };
    const split: StepSplit = { computeUs: 0, collectiveUs: 0, skewUs: 0, chooseUs: 0 };
    const skewBeforeUs = await this.#skewUs();
    const inFlight: Promise<StepResult>[] = [];
    const started = performance.now();
    for (let sent = 0; sent < steps || inFlight.length > 0; ) {
      while (sent < steps && inFlight.length < STEPS_IN_FLIGHT) {
        inFlight.push(this.#coordinator.step(plan));
        sent++;
      }
      const result = await inFlight.shift();
      split.computeUs += (result?.computeUs ?? 0) / steps;
      split.collectiveUs += (result?.collectiveUs ?? 0) / steps;
      split.chooseUs += (result?.chooseUs ?? 0) / steps;
    }
    const ms = (performance.now() - started) / steps;
    split.skewUs = ((await this.#skewUs()) - skewBeforeUs) / steps;
    return { ms, split };
  }

  /** Rank 0's, since its start. */
  async #skewUs(): Promise<number> {
    return (await this.#coordinator.inspect())[0]?.collectiveSkewUs ?? 0;
  }

  async closeDecodes(opens: readonly SequenceOpen[]): Promise<void> {
    await this.#coordinator.step({ closeSlots: opens.map(({ slot }) => slot), opens: [], rows: [] });
  }

  get pids(): readonly (number | undefined)[] {
    return this.#coordinator.pids;
  }

  /** The group as the server's batch loop steps it. */
  get stepped(): SteppedGroup {
    return this.#coordinator;
  }

  memory(): RankMemory[] {
    return this.#coordinator.pids.map((pid, rank) => ({ rank, pssBytes: pssBytes(pid) }));
  }

  /** Keys and values that are resident, over all ranks. */
  async kvBytes(): Promise<number> {
    return (await this.#coordinator.inspect()).reduce((sum, { kvTouchedBytes }) => sum + kvTouchedBytes, 0);
  }

  async stop(): Promise<void> {
    await this.#coordinator.stop();
  }

  /** A prompt of made-up ids that differ from sequence to sequence. */
  #open(slot: number, tokens: number, maxNewTokens: number): SequenceOpen {
    const sequence = ++this.#sequence;
    const promptIds = Array.from(
      { length: tokens },
      (_, index) => (sequence * 31 + index * 7) % this.#vocabSize,
    );
    return { slot, sequence, promptIds, maxNewTokens, endIds: [], sampling: GREEDY_SAMPLING };
  }
}

const row = ({ slot, sequence }: SequenceOpen, tokens: number) => ({ slot, sequence, tokens });

/** Warnings are shown; what a rank's load took is noted. */
function takeLogLine(line: string, rankLoadMs: Map<number, number>): void {
  const { level, loadMs, rank } = JSON.parse(line) as { level: number; loadMs?: number; rank?: number };
  if (level >= pino.levels.values.warn!) process.stderr.write(line);
  if (rank !== undefined && loadMs !== undefined) rankLoadMs.set(rank, loadMs);
}

function statusBytes(pid: number | undefined, field: string): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
}

export function pssBytes(pid: number | undefined): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
}
