/**
 * One life of a worker group of a language model: a coordinator and its ranks, and the batch loop that steps them.
 *
 * In      parts of both (group-parts.ts)
 * Out     Replica
 * Errors  those of the coordinator; run() rejects with what killed the group
 */
import assert from 'node:assert/strict';
import { WARM_UP_TOKENS } from '../../../proto/limits.js';
import { BatchLoop } from '../../batching/batch-loop.js';
import { Coordinator } from '../../coordinator/coordinator.js';
import type { Taker } from '../../jobs/fair-share.js';
import { NO_SAMPLE, type Replica, type ReplicaSample } from '../engine.js';
import type { GroupParts } from './group-parts.js';

const NO_ROOM: Taker = { running: 0, room: 0 };

export class LlmReplica implements Replica {
  readonly #parts: GroupParts;
  readonly #onIdle: (idle: boolean) => void;
  #coordinator: Coordinator | null = null;
  #loop: BatchLoop | null = null;
  #draining = false;

  constructor(parts: GroupParts, onIdle: (idle: boolean) => void) {
    this.#parts = parts;
    this.#onIdle = onIdle;
  }

  async start(signal: AbortSignal): Promise<void> {
    const { coordinator, loop } = this.#parts;
    this.#coordinator = await Coordinator.start(coordinator, signal);
    // Before the first request nothing else is known of the machine; a warm-up is cold, so that is more than a step will take.
    const tokens = 1 + Math.min(WARM_UP_TOKENS, coordinator.launch.slotTokens - 1);
    const warmUpMs = Math.max(...this.#coordinator.readiness.map((ready) => ready.warmUpMs));
    loop.chunkBudget.observe({ tokens, pairs: 0 }, warmUpMs);
    this.#loop = new BatchLoop({ ...loop, group: this.#coordinator, onIdle: this.#onIdle });
    if (this.#draining) this.#loop.stop();
  }

  run(): Promise<void> {
    assert(this.#loop, 'a replica is started before it runs');
    return this.#loop.run();
  }

  drain(): void {
    this.#draining = true;
    this.#loop?.stop();
  }

  /** The workers finish the steps that were sent before they end; a hung one is killed. */
  async stop(): Promise<void> {
    this.drain();
    await this.#coordinator?.stop();
  }

  get isResponsive(): boolean {
    return this.#coordinator?.isResponsive ?? true;
  }

  get hasWorked(): boolean {
    return (this.#coordinator?.stepsDone ?? 0) > 0;
  }

  get deathsOfRequests(): number {
    return this.#loop?.deathsOfRequests ?? 0;
  }

  slowerThanPeers(rank: number): number | null {
    return this.#coordinator?.slowerThanPeers(rank) ?? null;
  }

  get load(): Taker {
    const loop = this.#loop;
    return loop ? { running: loop.runningCount, room: loop.room } : NO_ROOM;
  }

  get pids(): readonly (number | undefined)[] {
    return this.#coordinator?.pids ?? [];
  }

  sample(): ReplicaSample {
    const [coordinator, loop] = [this.#coordinator, this.#loop];
    if (!coordinator || !loop) return NO_SAMPLE;
    const { freeKvTokens, kvTokens, maxSlots } = loop.slots;
    return {
      sequencesRunning: loop.runningCount,
      slots: maxSlots,
      kvTokensUsed: kvTokens - freeKvTokens,
      kvTokensCapacity: kvTokens,
      kvTokensWarm: loop.warmTokens,
      kvTokensSwapped: loop.slots.parkedKvTokens,
      inspect: async () => {
        const ranks = await coordinator.inspect();
        return ranks.map((inspection, rank) => ({
          ...inspection,
          slowness: coordinator.slowness[rank] ?? 1,
        }));
      },
    };
  }
}
