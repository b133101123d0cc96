/**
 * Keeps what is resident of a rank near what its steps need: packed weights, rows of running sequences, and little else.
 *
 * In      what was loaded; after each step, how many tokens it had
 * Out     while it loads and after: pages of weights files that were read to be packed, of code that only loading ran, and free heap go back.
 *         After every step: pages of a large embedding, of which a token maps 64 KiB, or 2 MiB, for the row it needs.
 *         After SMALL_STEPS steps of few tokens, or of at most half as many as before: activations and ONNX Runtime's arena, as far as
 *         larger steps grew them
 * Cost    a page that is touched again is read from the page cache, or zeroed, again: about 1 µs a token of the
 *         embedding, some 3 ms after a prompt of 512 tokens
 * Errors  an Error of madvise: none in a healthy process
 */
import { realpathSync } from 'node:fs';
import path from 'node:path';
import type { Manifest } from '../proto/manifest.js';
import type { Collective } from './collective/collective.js';
import type { Device, HostMemory } from './device/device.js';
import { type FileMapping, fileMappings, letGo, partOf } from './native/file-mappings.js';
import { noMoreHugePages, trimHeap } from './native/libc.js';

/** Tokens of which activations are always kept. */
const KEPT_TOKENS = 64;
/** Prompts in pieces and the steps between them should not take turns in zeroing pages. */
const SMALL_STEPS = 8;
/** So many give back together the pages that were read to be packed: finding them takes 2 ms. */
const SEGMENTS_TOGETHER = 8;
/** Tables of which a step reads some rows, where they are large. */
const LOOKED_UP = ['embedding', 'position-table'];
const LARGE_TABLE_BYTES = 2 ** 24;

/** Activations, [tokens, columns]. */
export interface TokenBuffer {
  rowBytes: number;
  /** null: `host` is the collective's. */
  memory: HostMemory | null;
  host: Float32Array | BigInt64Array;
}

export class StepMemory {
  readonly #device: Pick<Device, 'isRemote' | 'shrinkAfterNextRun'>;
  readonly #collective: Pick<Collective, 'discard'>;
  readonly #buffers: readonly TokenBuffer[];
  #lookedUp: readonly FileMapping[] = [];
  /** Whose rows may be resident. */
  #touchedTokens = 0;
  #smallSteps = 0;
  /** Tokens of the largest of the small steps in a row. */
  #mostTokens = 0;
  /** The arena has shrunk, into the heap as far as its pieces were small. */
  #heapIsLoose = false;

  constructor(options: {
    device: Pick<Device, 'isRemote' | 'shrinkAfterNextRun'>;
    collective: Pick<Collective, 'discard'>;
    buffers: readonly TokenBuffer[];
  }) {
    this.#device = options.device;
    this.#collective = options.collective;
    this.#buffers = options.buffers;
  }

  /** @param loaded segments so far */
  afterSegment(loaded: number, shardFolder: string): void {
    if (loaded % SEGMENTS_TOGETHER === 0) letGo(mappingsIn(shardFolder, fileMappings()));
  }

  /** Once, when everything was loaded and has run. */
  afterLoad(manifest: Manifest, shardFolder: string): void {
    const mapped = fileMappings();
    const weights = mappingsIn(shardFolder, mapped);
    // Panels are read where they are mapped: at the next step again.
    const inPlace = manifest.weightFormat.layout === 'panels' ? manifest.ranks : [];
    const kept = new Set(inPlace.map((rank) => path.join(realpathSync(shardFolder), rank.weights.path)));
    letGo(weights.filter((mapping) => !kept.has(mapping.path)));
    // Read-only data of a library may have been relocated, which is a write; code is as the file has it.
    // A GPU's driver makes code of its own, in files that only it knows: SwiftShader's is gone when it is let go.
    if (!this.#device.isRemote)
      letGo(mapped.filter(({ isExecutable, isWritable }) => isExecutable && !isWritable));
    noMoreHugePages();
    trimHeap();
    const shared = path.join(realpathSync(shardFolder), manifest.shared?.path ?? '');
    this.#lookedUp = manifest.tensors
      .filter(
        ({ bytes, file, name }) =>
          file === 'shared' && LOOKED_UP.includes(name) && bytes >= LARGE_TABLE_BYTES,
      )
      .flatMap(({ offset, bytes }) =>
        weights.flatMap((mapping) => (mapping.path === shared ? (partOf(mapping, offset, bytes) ?? []) : [])),
      );
  }

  /** When all ranks have come to the last all-reduce of the step: no peer reads what an earlier step had here. */
  afterStep(tokens: number): void {
    if (this.#heapIsLoose) {
      this.#heapIsLoose = false;
      trimHeap();
    }
    letGo(this.#lookedUp);
    if (tokens > KEPT_TOKENS && tokens > this.#touchedTokens / 2) {
      this.#touchedTokens = Math.max(this.#touchedTokens, tokens);
      this.#smallSteps = 0;
      this.#mostTokens = 0;
      return;
    }
    this.#mostTokens = Math.max(this.#mostTokens, tokens);
    if (this.#touchedTokens <= KEPT_TOKENS || ++this.#smallSteps < SMALL_STEPS) return;
    const keptTokens = Math.max(KEPT_TOKENS, this.#mostTokens);
    for (const { host, memory, rowBytes } of this.#buffers) {
      const kept = keptTokens * rowBytes;
      if (memory) memory.discard(kept, Math.max(0, this.#touchedTokens * rowBytes - kept));
      else this.#collective.discard?.(host as Float32Array, kept / Float32Array.BYTES_PER_ELEMENT);
    }
    this.#device.shrinkAfterNextRun();
    this.#heapIsLoose = true;
    this.#touchedTokens = this.#mostTokens;
    this.#smallSteps = 0;
    this.#mostTokens = 0;
  }
}

function mappingsIn(folder: string, mapped: readonly FileMapping[]): FileMapping[] {
  const prefix = `${realpathSync(folder)}${path.sep}`;
  return mapped.filter((mapping) => mapping.path.startsWith(prefix));
}
