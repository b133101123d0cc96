/**
 * All ranks of a group in this process, joined by the in-memory collective, with the logits of every position.
 *
 * In      a shard folder
 * Out     nats of each next token of some windows of text; greedy texts
 * How     every token of a window is a span of its own, so that each has a row of logits; a step runs several windows
 * Limits  one thread a rank: ranks take turns
 */
import type { SequenceOpen } from '../../proto/control.js';
import { GREEDY_SAMPLING } from '../../proto/control.js';
import type { Manifest } from '../../proto/manifest.js';
import { createInMemoryCollectives } from '../../shard-worker/collective/in-memory.js';
import { CpuDevice } from '../../shard-worker/device/cpu-device.js';
import { Executor } from '../../shard-worker/executor.js';
import { KvCache, kvCacheShape } from '../../shard-worker/kv-cache.js';
import { readManifest } from '../../shard-worker/read-manifest.js';
import { Sequence } from '../../shard-worker/sequence.js';
import type { Span } from '../../shard-worker/span.js';

/** Tokens of one step; the rotary operator takes no more at once than the model has positions. */
const stepTokens = ({ model }: Manifest): number => Math.min(768, model.contextLength);

/** ONNX Runtime has one environment a process. */
let device: CpuDevice | null = null;

export class LockstepGroup {
  readonly manifest: Manifest;
  readonly #executors: readonly Executor[];
  readonly #caches: readonly KvCache[];
  readonly #vocabSize: number;
  readonly #rank0Vocab: number;
  #step = 0;

  private constructor(manifest: Manifest, executors: readonly Executor[], caches: readonly KvCache[]) {
    this.manifest = manifest;
    this.#executors = executors;
    this.#caches = caches;
    this.#vocabSize = manifest.model.vocabSize;
    this.#rank0Vocab = manifest.perRank.vocab;
  }

  static async load(shardFolder: string, windowTokens: number): Promise<LockstepGroup> {
    const manifest = await readManifest(shardFolder);
    const { model, worldSize } = manifest;
    device ??= new CpuDevice({ threads: 1, logId: 'lockstep' });
    const shared = device;
    const size = Math.max(stepTokens(manifest), windowTokens);
    const maxSlots = Math.floor(size / windowTokens);
    const caches: KvCache[] = [];
    const executors: Executor[] = [];
    for (const [rank, collective] of createInMemoryCollectives(worldSize).entries()) {
      const kvCache = new KvCache({
        device: shared,
        ...kvCacheShape(manifest),
        maxSlots,
        slotTokens: model.contextLength,
      });
      const executor = new Executor({
        manifest,
        shardFolder,
        rank,
        device: shared,
        collective,
        kvCache,
        maxStepTokens: size,
        maxRows: size,
      });
      await executor.load();
      caches.push(kvCache);
      executors.push(executor);
    }
    return new LockstepGroup(manifest, executors, caches);
  }

  /**
   * @param windows of ids, all equally long; the last id of each is only predicted
   * @returns nats of the predicted tokens, window after window
   */
  async nats(windows: readonly (readonly number[])[]): Promise<Float64Array> {
    const predicted = (windows[0]?.length ?? 1) - 1;
    const perStep = Math.max(1, Math.floor(stepTokens(this.manifest) / predicted));
    const nats = new Float64Array(windows.length * predicted);
    for (let first = 0; first < windows.length; first += perStep) {
      const group = windows.slice(first, first + perStep);
      const spans = group.flatMap((ids, slot) =>
        everyToken(this.#open(slot, ids.slice(0, -1)), slot * predicted, 0),
      );
      await this.#run(spans);
      for (const [slot, ids] of group.entries()) {
        for (let index = 0; index < predicted; index++) {
          const row = slot * predicted + index;
          nats[first * predicted + row] = this.#natsOf(row, ids[index + 1]!);
        }
        this.#close(slot);
      }
    }
    return nats;
  }

  /** The most likely ids after a prompt, as decode steps of one token choose them. */
  async greedy(promptIds: readonly number[], newTokens: number): Promise<number[]> {
    const sequence = this.#open(0, promptIds);
    const { length } = promptIds;
    await this.#run([{ sequence, offset: 0, count: length, position: 0, outputRows: 1 }]);
    sequence.append(this.#best(0));
    while (sequence.newIds.length < newTokens) {
      await this.#run([{ sequence, offset: 0, count: 1, position: sequence.length - 1, outputRows: 1 }]);
      sequence.append(this.#best(0));
    }
    this.#close(0);
    return sequence.newIds;
  }

  /** Milliseconds of a decode step of one sequence, the mean of some. */
  async decodeMs(promptIds: readonly number[], steps: number): Promise<number> {
    const sequence = this.#open(0, promptIds);
    const { length } = promptIds;
    await this.#run([{ sequence, offset: 0, count: length, position: 0, outputRows: 1 }]);
    sequence.append(this.#best(0));
    const start = performance.now();
    for (let step = 0; step < steps; step++) {
      await this.#run([{ sequence, offset: 0, count: 1, position: sequence.length - 1, outputRows: 1 }]);
      sequence.append(0);
    }
    const ms = performance.now() - start;
    this.#close(0);
    return ms / steps;
  }

  #open(slot: number, promptIds: readonly number[]): Sequence {
    for (const cache of this.#caches) cache.open(slot);
    const open: SequenceOpen = {
      slot,
      sequence: 1,
      promptIds: [...promptIds],
      maxNewTokens: this.manifest.model.contextLength - promptIds.length,
      endIds: [],
      sampling: GREEDY_SAMPLING,
    };
    return new Sequence(open);
  }

  #close(slot: number): void {
    for (const cache of this.#caches) cache.close(slot);
  }

  async #run(spans: readonly Span[]): Promise<void> {
    this.#step++;
    for (const executor of this.#executors) executor.begin(this.#step, spans);
    await Promise.all(this.#executors.map((executor) => executor.run()));
  }

  #logit(slices: readonly Float32Array[], id: number): number {
    return slices[Math.floor(id / this.#rank0Vocab)]![id % this.#rank0Vocab]!;
  }

  #natsOf(row: number, id: number): number {
    const slices = this.#executors.map((executor) => executor.output(row));
    let largest = Number.NEGATIVE_INFINITY;
    for (let other = 0; other < this.#vocabSize; other++) {
      largest = Math.max(largest, this.#logit(slices, other));
    }
    let sum = 0;
    for (let other = 0; other < this.#vocabSize; other++)
      sum += Math.exp(this.#logit(slices, other) - largest);
    return largest + Math.log(sum) - this.#logit(slices, id);
  }

  #best(row: number): number {
    const slices = this.#executors.map((executor) => executor.output(row));
    let best = 0;
    for (let id = 1; id < this.#vocabSize; id++) {
      if (this.#logit(slices, id) > this.#logit(slices, best)) best = id;
    }
    return best;
  }
}

function everyToken(sequence: Sequence, offset: number, position: number): Span[] {
  return sequence.promptIds.map((_, index) => ({
    sequence,
    offset: offset + index,
    count: 1,
    position: position + index,
    outputRows: 1,
  }));
}
