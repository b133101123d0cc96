/**
 * llama.cpp in a process of its own: opens contexts, and times prefills and decode steps when it is told to.
 *
 * Run     forked by llama-peer.ts, with an IPC channel; ends with it
 * In      LlamaCall messages, one at a time
 * Out     LlamaAnswer messages; the times are taken here, so that the channel is not in them
 * How     one llama_decode a step with a token of every sequence, then the greedy token of every sequence, at once. Between
 *         calls nothing runs: llama.cpp's threads live as long as one llama_decode
 */
import assert from 'node:assert/strict';
import {
  type LlamaBindings,
  type LlamaContext,
  type LlamaModel,
  type LlamaSampler,
  loadLlamaBindings,
} from './llama-bindings.js';

/** Tokens that llama.cpp takes in one llama_decode. */
const BATCH_TOKENS = 512;
/** The first id of a made-up prompt; beyond the special tokens. */
const FIRST_TOKEN = 300;

export type LlamaCall =
  | { call: 'load'; packageFolder: string; file: string; threads: number }
  | {
      call: 'open';
      name: string;
      sequences: number;
      /** Tokens of prompt of each sequence. */
      context: number;
      /** Positions of each sequence. */
      capacity: number;
      flashAttention: boolean;
    }
  | { call: 'decode'; name: string; steps: number }
  | { call: 'prefill'; name: string; tokens: number }
  | { call: 'rewind'; name: string }
  | { call: 'close'; name: string };

/** `load`: how the library was built. `decode`: milliseconds a step; `prefill`: milliseconds. */
export type LlamaAnswer = { info: string } | { ms: number } | { error: string };

interface OpenContext {
  context: LlamaContext;
  tokens: number[];
  promptTokens: number;
  position: number;
}

let bindings: LlamaBindings;
let model: LlamaModel;
let threads = 1;
let prompts = 0;
const samplers: LlamaSampler[] = [];
const contexts = new Map<string, OpenContext>();

async function answer(request: LlamaCall): Promise<LlamaAnswer> {
  switch (request.call) {
    case 'load':
      bindings = await loadLlamaBindings(request.packageFolder);
      threads = request.threads;
      model = new bindings.AddonModel(request.file, { addonExports: bindings, gpuLayers: 0 });
      if (!(await model.init())) throw new Error(`llama.cpp can't load ${request.file}`);
      return { info: bindings.systemInfo() };
    case 'open':
      await open(request);
      return { ms: 0 };
    case 'decode':
      return { ms: await decode(contextOf(request.name), request.steps) };
    case 'prefill':
      return { ms: await prefill(contextOf(request.name), request.tokens) };
    case 'rewind':
      rewind(contextOf(request.name));
      return { ms: 0 };
    case 'close':
      await contextOf(request.name).context.dispose();
      contexts.delete(request.name);
      return { ms: 0 };
  }
}

function contextOf(name: string): OpenContext {
  const open = contexts.get(name);
  assert(open, `no context ${name}`);
  return open;
}

async function open(request: Extract<LlamaCall, { call: 'open' }>): Promise<void> {
  const { capacity, flashAttention, name, sequences } = request;
  const context = new bindings.AddonContext(model, {
    contextSize: capacity * sequences,
    batchSize: BATCH_TOKENS,
    sequences,
    flashAttention,
    threads,
  });
  if (!(await context.init())) throw new Error(`llama.cpp has no memory for ${capacity * sequences} tokens`);
  while (samplers.length < sequences) {
    const sampler = new bindings.AddonSampler(model);
    sampler.applyConfig({});
    samplers.push(sampler);
  }
  const tokens = Array.from({ length: sequences }, (_, sequence) => FIRST_TOKEN + 17 * sequence);
  contexts.set(name, { context, tokens, promptTokens: request.context, position: request.context });
  if (request.context === 0) return;
  await runPrompt(context, request.context);
  for (let sequence = 1; sequence < sequences; sequence++) {
    await context.copySequenceStateFromOtherSequence(sequence, 0);
  }
}

/** A prompt that no other one equals, into sequence 0. */
async function runPrompt(context: LlamaContext, tokens: number): Promise<void> {
  prompts++;
  const ids = Uint32Array.from(
    { length: tokens },
    (_, index) => FIRST_TOKEN + ((prompts * 31 + index * 7) % 30_000),
  );
  for (let from = 0; from < tokens; from += BATCH_TOKENS) {
    const chunk = ids.subarray(from, from + BATCH_TOKENS);
    context.initBatch(chunk.length);
    const isLast = from + chunk.length === tokens;
    const [logits] = context.addToBatch(0, from, chunk, Uint32Array.from(isLast ? [chunk.length - 1] : []));
    await context.decodeBatch();
    if (isLast) await context.sampleToken(logits!, samplers[0]!);
  }
}

async function prefill({ context }: OpenContext, tokens: number): Promise<number> {
  const started = performance.now();
  await runPrompt(context, tokens);
  const ms = performance.now() - started;
  context.disposeSequence(0);
  return ms;
}

function rewind(open: OpenContext): void {
  for (let sequence = 0; sequence < open.tokens.length; sequence++) {
    open.context.removeTokenCellsFromSequence(sequence, open.promptTokens, -1);
  }
  open.position = open.promptTokens;
}

async function decode(open: OpenContext, steps: number): Promise<number> {
  const { context, tokens } = open;
  const first = Uint32Array.of(0);
  const started = performance.now();
  for (let step = 0; step < steps; step++) {
    context.initBatch(tokens.length);
    const logits = tokens.map(
      (token, sequence) => context.addToBatch(sequence, open.position, Uint32Array.of(token), first)[0]!,
    );
    open.position++;
    await context.decodeBatch();
    const chosen = await Promise.all(
      logits.map((index, sequence) => context.sampleToken(index, samplers[sequence]!)),
    );
    for (const [sequence, token] of chosen.entries()) tokens[sequence] = token;
  }
  return (performance.now() - started) / steps;
}

process.on('message', (request: LlamaCall) => {
  answer(request)
    .catch((error: Error) => ({ error: error.message }))
    .then((message) => process.send?.(message));
});
process.on('disconnect', () => process.exit(0));
