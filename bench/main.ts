/**
 * The speed of a model's groups, measured on the path that serves: partitioner → shards → coordinator → shard workers →
 * collective. Not the HTTP server: no text, no sockets of clients.
 *
 * In      `--model` a named shape (partitioner/shapes) or a folder; degree, dtype, …: see HELP
 * Out     a table, or one JSON object with --json: load time, prefill tok/s, decode ms a step and tok/s, memory a rank
 * How     groups of all degrees are loaded; their measurements alternate, `--repeat` times; medians are told with min and max
 * Errors  a ServingError's message and exit code 1
 */
import { existsSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { shapeFolder } from '../partitioner/named-shapes.js';
import { partition } from '../partitioner/partition.js';
import type { Dtype } from '../partitioner/quantise/weight-format.js';
import type { Manifest } from '../proto/manifest.js';
import type { Scheduling } from '../server/batching/chunk-budget.js';
import { DEFAULT_COLLECTIVE } from '../server/config/config.js';
import { usableCores } from '../server/machine/machine-limits.js';
import { NOISE_LIMIT, quietOf, watchCpu } from '../tuner/target/cpu-use.js';
import { BusyNeighbours } from './busy-neighbours.js';
import {
  GroupUnderTest,
  pssBytes,
  type RankLoad,
  type RankMemory,
  type StepSplit,
} from './group-under-test.js';
import { readBandwidth } from './memory-bandwidth.js';
import { GAP_STREAM_TOKENS, measurePromptGap, type PromptGapReport } from './prompt-gap.js';
import { renderTable } from './report.js';
import { type Spread, spread } from './spread.js';
import { wholeNumber } from './whole-number.js';

const HELP = `Usage: npm run bench -- --model NAME|DIR [options]

  --model NAME|DIR     a named shape (tinyllama-1.1b, …) or a folder with config.json
  --random-weights     noise in place of a checkpoint's weights
  --dtype D            auto, fp32, int8 or int4 (default int4)
  --block-size N       weights that share a scale (default 128)
  --tp N[,N]           degrees to measure beside each other (default 1,2)
  --collective C[,C]   zmq, shm or auto (default: the server's); several are measured beside each other
  --threads N          threads a rank (default: usable cores / tp)
  --context N[,N]      tokens of prompt before a decode is measured (default 64); of the first --sequences alone behind the others
  --prefill N          tokens of the measured prompt (default 512)
  --sequences N,N      running sequences (default 1,8,32)
  --steps N            decode steps a measurement (default 32)
  --repeat N           measurements of each kind (default 5); a round beside other work is marked and done again, in twice as
                       many rounds at most
  --store DIR          where shards are kept (default: a folder in the system's temporary folder)
  --gap N              also: the largest pause of 8 streams while a prompt of N tokens runs beside them
  --gap-ms N           the pause that is allowed (default 500)
  --scheduling P       of the same: throughput, balanced or latency (default balanced)
  --neighbours N       also: decode of the first --sequences beside N processes that use a core each (default 0)
  --json               one JSON object instead of a table`;

const GAP_STREAMS = 8;
const POLICIES = ['throughput', 'balanced', 'latency'] as const;
const COLLECTIVES = ['auto', 'zmq', 'shm'] as const;
type Collective = (typeof COLLECTIVES)[number];

export interface GroupReport {
  tp: number;
  collective: Collective;
  threads: number;
  loadMs: number;
  loads: readonly RankLoad[];
  memory: RankMemory[];
  /** What ranks must hold: their packed weights, and rows of keys and values that were written. */
  neededBytes: number;
  prefill: { tokens: number; tokensPerSecond: Spread };
  /** null: not asked for. */
  promptGap: PromptGapReport | null;
  /** `bandwidthShare`: bytes of weights and of keys and values read a step, of what the ranks' threads could have read in that time. */
  decode: {
    sequences: number;
    context: number;
    stepMs: Spread;
    tokensPerSecond: number;
    bandwidthShare: number;
    split: StepSplit;
  }[];
  /** Decode of the first number of sequences beside busy neighbours; null: not asked for. */
  busy: { neighbours: number; stepMs: Spread } | null;
  /** Bytes a second that as many threads read, in the same rounds. */
  readBandwidth: Spread;
  /** Rounds beside other work, which do not count unless half of them were. */
  noisyRounds: number;
  rounds: number;
}

export interface BenchReport {
  model: string;
  dtype: string;
  blockSize: number | null;
  machine: string;
  /** Memory of this process, which drives the groups as a server would; not in theirs (PSS). */
  driverBytes: number;
  groups: GroupReport[];
}

const list = (text: string): number[] => text.split(',').map(Number);

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      model: { type: 'string' },
      'random-weights': { type: 'boolean', default: false },
      dtype: { type: 'string', default: 'int4' },
      'block-size': { type: 'string', default: '128' },
      tp: { type: 'string', default: '1,2' },
      threads: { type: 'string' },
      collective: { type: 'string', default: DEFAULT_COLLECTIVE },
      context: { type: 'string', default: '64' },
      prefill: { type: 'string', default: '512' },
      sequences: { type: 'string', default: '1,8,32' },
      steps: { type: 'string', default: '32' },
      repeat: { type: 'string', default: '5' },
      store: { type: 'string', default: path.join(tmpdir(), 'shardserve-bench') },
      gap: { type: 'string', default: '0' },
      'gap-ms': { type: 'string', default: '500' },
      scheduling: { type: 'string', default: 'balanced' },
      neighbours: { type: 'string', default: '0' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help || !values.model) {
    console.log(HELP);
    return values.help ? 0 : 1;
  }
  const collectives = values.collective.split(',').map((name) => {
    const known = COLLECTIVES.find((collective) => collective === name);
    if (!known) throw new Error(`--collective is ${name}; it must be one of ${COLLECTIVES.join(', ')}`);
    return known;
  });
  const scheduling = POLICIES.find((policy) => policy === values.scheduling);
  if (!scheduling)
    throw new Error(`--scheduling is ${values.scheduling}; it must be one of ${POLICIES.join(', ')}`);
  const degrees = list(values.tp);
  const sizes = {
    contexts: list(values.context),
    prefill: Number(values.prefill),
    sequences: list(values.sequences),
    steps: Number(values.steps),
    repeat: Number(values.repeat),
    gapPrompt: Number(values.gap),
    gapMs: wholeNumber('gap-ms', values['gap-ms'], 1),
    scheduling,
    neighbours: Number(values.neighbours),
  };
  const folder = existsSync(values.model) ? values.model : shapeFolder(values.model);
  const groups: MeasuredGroup[] = [];
  let blockSize: number | null = null;
  try {
    for (const tp of degrees) {
      const { manifest, shardFolder } = await partition({
        folder,
        outStore: values.store,
        tp,
        dtype: values.dtype as Dtype,
        blockSize: Number(values['block-size']),
        randomWeights: values['random-weights'],
      });
      blockSize = manifest.weightFormat.blockSize;
      const threads = values.threads ? Number(values.threads) : Math.max(1, Math.floor(usableCores() / tp));
      // One rank has nobody to talk to.
      for (const collective of tp === 1 ? collectives.slice(0, 1) : collectives) {
        const group = await GroupUnderTest.start({
          shardFolder,
          manifest,
          workerProgram: fileURLToPath(new URL('../shard-worker/main.js', import.meta.url)),
          threads,
          maxSlots: Math.max(GAP_STREAMS + 1, ...sizes.sequences),
          slotTokens: Math.min(
            manifest.model.contextLength,
            Math.max(
              sizes.prefill,
              Math.max(...sizes.contexts) + sizes.steps,
              GAP_STREAM_TOKENS,
              sizes.gapPrompt,
            ) + 8,
          ),
          collective,
          maxStepTokens: Math.max(
            sizes.prefill + (sizes.gapPrompt > 0 ? GAP_STREAMS : 0),
            ...sizes.sequences,
          ),
        });
        groups.push({ group, threads, collective, manifest });
      }
    }
    const report: BenchReport = {
      model: values.model,
      dtype: values.dtype,
      blockSize,
      machine: `${cpus()[0]?.model ?? 'unknown'}, ${usableCores()} cores`,
      groups: await measure(groups, sizes),
      driverBytes: pssBytes(process.pid),
    };
    console.log(values.json ? JSON.stringify(report) : renderTable(report));
    return 0;
  } finally {
    for (const { group } of groups) await group.stop();
  }
}

interface MeasuredGroup {
  group: GroupUnderTest;
  threads: number;
  collective: Collective;
  manifest: Manifest;
}

/** What a step reads, over all ranks. */
function weightBytes({ tensors, worldSize }: Manifest): number {
  const read = tensors.filter(({ file }) => file === 'rank');
  return worldSize * read.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Keys and values of a token, over all layers and ranks, in floats. */
const kvRowBytes = ({ model, perRank, worldSize }: Manifest): number =>
  worldSize * model.numLayers * 2 * perRank.numKvHeads * perRank.headDim * 4;

/** One round of a group. */
interface Sample {
  isClean: boolean;
  bandwidth: number;
  prefillMs: number;
  decode: { ms: number; split: StepSplit }[];
  busyMs: number | null;
}

/** Sizes of what is measured. */
interface Sizes {
  contexts: number[];
  prefill: number;
  sequences: number[];
  steps: number;
  repeat: number;
  /** 0: not measured. */
  gapPrompt: number;
  gapMs: number;
  scheduling: Scheduling;
  neighbours: number;
}

async function measure(groups: readonly MeasuredGroup[], sizes: Sizes): Promise<GroupReport[]> {
  const samples: Sample[][] = groups.map(() => []);
  const isWanting = (of: Sample[]): boolean => of.filter(({ isClean }) => isClean).length < sizes.repeat;
  // The first round is the warm-up; the groups take turns, so that a slow minute of the machine meets all.
  for (let round = 0; round <= 2 * sizes.repeat; round++) {
    for (const [index, group] of groups.entries()) {
      const of = samples[index]!;
      if (!isWanting(of)) continue;
      const sample = await measureRound(group, sizes);
      if (round > 0) of.push(sample);
    }
  }
  const gaps: (PromptGapReport | null)[] = [];
  for (const { group } of groups) {
    gaps.push(
      sizes.gapPrompt > 0
        ? await measurePromptGap(group.stepped, {
            streams: GAP_STREAMS,
            promptTokens: sizes.gapPrompt,
            maxStepTokens: sizes.prefill,
            ...sizes,
          })
        : null,
    );
  }
  return Promise.all(
    groups.map(async (measured, index) => ({
      ...summarise(measured, samples[index]!, sizes, await measured.group.kvBytes()),
      promptGap: gaps[index] ?? null,
    })),
  );
}

/** What is decoded: all numbers of sequences behind the first context, the first of them behind the others. */
function decodesOf({ contexts, sequences }: Sizes): { sequences: number; context: number }[] {
  const [first = 64, ...others] = contexts;
  return [
    ...sequences.map((count) => ({ sequences: count, context: first })),
    ...others.map((context) => ({ sequences: sequences[0] ?? 1, context })),
  ];
}

async function measureRound({ group, threads }: MeasuredGroup, sizes: Sizes): Promise<Sample> {
  const done = watchCpu(group.pids);
  const bandwidth = await readBandwidth(Math.min(threads * group.worldSize, usableCores()));
  const prefillMs = await group.prefillMs(sizes.prefill);
  const decode: Sample['decode'] = [];
  for (const { context, sequences } of decodesOf(sizes)) {
    decode.push(await group.decodeMs(sequences, context, sizes.steps));
  }
  const isClean = done().others <= NOISE_LIMIT;
  let busyMs: number | null = null;
  if (sizes.neighbours > 0) {
    const neighbours = new BusyNeighbours(sizes.neighbours);
    try {
      busyMs = (await group.decodeMs(sizes.sequences[0] ?? 1, sizes.contexts[0] ?? 64, sizes.steps)).ms;
    } finally {
      await neighbours.stop();
    }
  }
  return { isClean, bandwidth, prefillMs, decode, busyMs };
}

function summarise(
  { collective, group, manifest, threads }: MeasuredGroup,
  samples: readonly Sample[],
  sizes: Sizes,
  kvBytes: number,
): Omit<GroupReport, 'promptGap'> {
  const used = quietOf(samples);
  const bandwidth = spread(used.map((sample) => sample.bandwidth));
  const busyMs = used.flatMap((sample) => sample.busyMs ?? []);
  return {
    tp: group.worldSize,
    collective,
    threads,
    loadMs: Math.round(group.loadMs),
    loads: group.loads,
    memory: group.memory(),
    neededBytes: manifest.ranks.reduce((sum, { weights }) => sum + weights.bytes, 0) + kvBytes,
    prefill: {
      tokens: sizes.prefill,
      tokensPerSecond: spread(used.map(({ prefillMs }) => (sizes.prefill * 1000) / prefillMs)),
    },
    decode: decodesOf(sizes).map(({ context, sequences }, which) => {
      const measured = used.map(({ decode }) => decode[which]!);
      const stepMs = spread(measured.map(({ ms }) => ms));
      const bytes = weightBytes(manifest) + sequences * (context + sizes.steps / 2) * kvRowBytes(manifest);
      return {
        ...{ sequences, context, stepMs },
        tokensPerSecond: (sequences * 1000) / stepMs.median,
        bandwidthShare: (bytes * 1000) / stepMs.median / bandwidth.median,
        split: measured.find(({ ms }) => ms === stepMs.median)!.split,
      };
    }),
    busy: busyMs.length === 0 ? null : { neighbours: sizes.neighbours, stepMs: spread(busyMs) },
    readBandwidth: bandwidth,
    noisyRounds: samples.filter(({ isClean }) => !isClean).length,
    rounds: samples.length,
  };
}
