/**
 * The part of node-llama-cpp that is used: its native binding, below its scheduler, templates and samplers in JavaScript.
 *
 * In      the folder of package.json where node-llama-cpp is installed
 * Out     the binding, with the CPU library that llama.cpp itself chooses for this machine
 * Why     the package's own evaluation adds work a token in JavaScript that llama.cpp's C callers do not have
 * Errors  the package's own, when its prebuilt library can't be loaded: nothing is compiled or downloaded here
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export interface LlamaModel {
  init(): Promise<boolean>;
}

/** Greedy when its configuration is empty. */
export interface LlamaSampler {
  applyConfig(config: Record<string, never>): void;
}

export interface LlamaContextOptions {
  /** Tokens over all sequences; each has its share. */
  contextSize: number;
  batchSize: number;
  sequences: number;
  flashAttention: boolean;
  threads: number;
}

export interface LlamaContext {
  init(): Promise<boolean>;
  dispose(): Promise<void>;
  initBatch(tokens: number): void;
  /** @returns where the logits of the tokens at `logitIndexes` will be */
  addToBatch(
    sequence: number,
    firstPosition: number,
    tokens: Uint32Array,
    logitIndexes: Uint32Array,
  ): Uint32Array;
  decodeBatch(): Promise<void>;
  sampleToken(logitIndex: number, sampler: LlamaSampler): Promise<number>;
  disposeSequence(sequence: number): void;
  /** @param end −1: the last */
  removeTokenCellsFromSequence(sequence: number, start: number, end: number): boolean;
  copySequenceStateFromOtherSequence(target: number, source: number): Promise<number>;
}

export interface LlamaBindings {
  AddonModel: new (file: string, options: { addonExports: LlamaBindings; gpuLayers: number }) => LlamaModel;
  AddonContext: new (model: LlamaModel, options: LlamaContextOptions) => LlamaContext;
  AddonSampler: new (model: LlamaModel) => LlamaSampler;
  systemInfo(): string;
}

export async function loadLlamaBindings(packageFolder: string): Promise<LlamaBindings> {
  const entry = createRequire(path.join(packageFolder, 'package.json')).resolve('node-llama-cpp');
  const { getLlama } = await import(pathToFileURL(entry).href);
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: 'error',
  });
  return llama._bindings;
}
