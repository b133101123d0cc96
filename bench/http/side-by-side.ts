/**
 * The measurements of bench:http: the server's sockets and the bare engine in turns, with the same work.
 *
 * In      a running server with its clients, a running group
 * Out     pairs, and what they come to
 * How     all streams are opened once, on both sides. Then a slice of some steps of the engine, while the server, its ranks and
 *         its clients are held (SIGSTOP), and a slice of as many steps of the server, while the engine sleeps, again and
 *         again: seconds apart, a machine that changes its speed from minute to minute meets both alike. Each slice of
 *         the server is compared with the mean of the engine's before and after it
 * Limits  a slice beside more than NOISE_LIMIT of other use is marked, and more are measured, TRIES times as many at most
 */

import { monotonicMs } from '../../tuner/load/monotonic.js';
import { NOISE_LIMIT, quietOf, watchCpu } from '../../tuner/target/cpu-use.js';
import type { ServerUnderTest } from '../../tuner/target/server-under-test.js';
import type { GroupUnderTest } from '../group-under-test.js';
import { type Spread, spread } from '../spread.js';
import { gapsIn, mean, type Span, UNCOUNTED_TOKENS } from './slices.js';
import type { StreamClients } from './stream-clients.js';

const PAUSE_MS = 50;
const TRIES = 2;
/** The first id of a made-up prompt: beyond the special tokens. */
const FIRST_TOKEN = 300;
/** Steps of the server beside those that count: some are cut by the ends of a slice, and it may run faster than was thought. */
const SPARE_STEPS = 4;

export interface Sides {
  clients: StreamClients;
  engine: GroupUnderTest;
  model: string;
  server: ServerUnderTest;
  vocabSize: number;
}

export interface StreamSizes {
  /** Tokens of prompt of a stream. */
  prompt: number;
  /** Steps of a slice. */
  steps: number;
  /** Quiet slices of the server. */
  repeat: number;
}

export interface StreamsReport {
  streams: number;
  engineTokensPerSecond: Spread;
  socketTokensPerSecond: Spread;
  /** Socket to engine, of each slice. */
  ratio: Spread;
  gapMs: Spread;
  /** The first token of the stream that waited longest, all having been opened at once. */
  firstTokenMs: number;
  /** Shares of a core. */
  clientCpu: number;
  serverCpu: number;
  cleanPairs: number;
  pairs: number;
}

export interface FirstTokenReport {
  promptTokens: number;
  enginePrefillMs: Spread;
  socketMs: Spread;
  /** Socket less the mean of the engine's before and after it. */
  overMs: Spread;
  cleanPairs: number;
  pairs: number;
}

/** Tokens of a stream that runs as long as its measurement, and of the engine's. */
export const tokensOfStream = (streams: number, { repeat, steps }: StreamSizes): number =>
  2 * streams + (repeat * TRIES + 1) * (steps + SPARE_STEPS);

interface EngineSlice {
  stepMs: number;
  isClean: boolean;
}

interface ServerSlice {
  span: Span;
  isClean: boolean;
  clientSeconds: number;
  serverSeconds: number;
}

let prompts = 0;

export async function measureStreams(
  sides: Sides,
  streams: number,
  sizes: StreamSizes,
): Promise<StreamsReport> {
  const { clients, engine, server } = sides;
  const tokens = tokensOfStream(streams, sizes);
  const held = [server.pid, ...server.workerPids(), clients.pid];
  // While the prompts of the others run a stream makes up to two tokens for each: the mean stream is so far when all run.
  const opens = await engine.openDecodes(0, streams, sizes.prompt + streams, tokens);
  const sliceOfEngine = async (): Promise<EngineSlice> => {
    await engine.runDecodes(opens, UNCOUNTED_TOKENS);
    const watched = watchCpu([...held, ...engine.pids]);
    const { ms } = await engine.runDecodes(opens, sizes.steps);
    return { stepMs: ms, isClean: watched().others <= NOISE_LIMIT };
  };
  const sliceOfServer = async (stepMs: number): Promise<ServerSlice> => {
    const watched = watchCpu([server.pid, clients.pid, ...server.workerPids(), ...engine.pids]);
    const fromMs = monotonicMs();
    await pause(stepMs * (sizes.steps + UNCOUNTED_TOKENS));
    const { others, own, seconds } = watched();
    return {
      span: { fromMs, toMs: monotonicMs() },
      isClean: others <= NOISE_LIMIT,
      serverSeconds: (own[0] ?? 0) * seconds,
      clientSeconds: (own[1] ?? 0) * seconds,
    };
  };
  const firstTokenMs = await clients.open(streamCall(sides, streams, sizes.prompt, tokens));
  const engineSlices = [await whileHeld(held, sliceOfEngine)];
  const serverSlices: ServerSlice[] = [];
  let cleanPairs = 0;
  while (cleanPairs < sizes.repeat && serverSlices.length < sizes.repeat * TRIES) {
    const before = engineSlices.at(-1)!;
    const slice = await sliceOfServer(before.stepMs);
    const after = await whileHeld(held, sliceOfEngine);
    slice.isClean &&= before.isClean && after.isClean;
    serverSlices.push(slice);
    engineSlices.push(after);
    cleanPairs += Number(slice.isClean);
  }
  const times = await clients.close();
  await engine.closeDecodes(opens);
  const pairs = serverSlices.flatMap((slice, index) => {
    const gapsMs = gapsIn(times, slice.span);
    const engineMs = mean([engineSlices[index]!.stepMs, engineSlices[index + 1]!.stepMs]);
    return gapsMs === null ? [] : [{ ...slice, gapsMs, engineMs, serverMs: mean(gapsMs) }];
  });
  const clean = pairs.filter(({ isClean }) => isClean);
  const used = quietOf(pairs);
  if (used.length === 0) {
    const [{ span }] = serverSlices as [ServerSlice];
    throw new Error(
      `no slice of ${Math.round(span.toMs - span.fromMs)} ms had tokens enough of each of ${streams} streams: more --steps`,
    );
  }
  const perSecond = (stepMs: number): number => (streams * 1000) / stepMs;
  const seconds = used.reduce((sum, { span }) => sum + (span.toMs - span.fromMs) / 1000, 0);
  const shareOfCore = (of: (slice: ServerSlice) => number): number =>
    used.reduce((sum, slice) => sum + of(slice), 0) / seconds;
  return {
    streams,
    engineTokensPerSecond: spread(used.map(({ engineMs }) => perSecond(engineMs))),
    socketTokensPerSecond: spread(used.map(({ serverMs }) => perSecond(serverMs))),
    ratio: spread(used.map(({ engineMs, serverMs }) => engineMs / serverMs)),
    gapMs: spread(used.flatMap(({ gapsMs }) => gapsMs)),
    firstTokenMs,
    clientCpu: shareOfCore(({ clientSeconds }) => clientSeconds),
    serverCpu: shareOfCore(({ serverSeconds }) => serverSeconds),
    cleanPairs: clean.length,
    pairs: serverSlices.length,
  };
}

/** One stream: from the request until its first token is at the client, against the engine's prefill of as many tokens. */
export async function measureFirstToken(
  sides: Sides,
  promptTokens: number,
  repeat: number,
): Promise<FirstTokenReport> {
  const { clients, engine, server } = sides;
  const pids = [server.pid, ...server.workerPids(), clients.pid, ...engine.pids];
  const watchedly = async (measure: () => Promise<number>) => {
    await pause(PAUSE_MS);
    const watched = watchCpu(pids);
    const ms = await measure();
    return { ms, isClean: watched().others <= NOISE_LIMIT };
  };
  const ofEngine = () => watchedly(() => engine.prefillMs(promptTokens));
  const ofServer = () => watchedly(() => clients.open(streamCall(sides, 1, promptTokens, 2)));
  await ofServer();
  await clients.close();
  await ofEngine();
  const pairs: { engineMs: number; socketMs: number; isClean: boolean }[] = [];
  let before = await ofEngine();
  let cleanPairs = 0;
  while (cleanPairs < repeat && pairs.length < repeat * TRIES) {
    const socket = await ofServer();
    await clients.close();
    const after = await ofEngine();
    const isClean = before.isClean && socket.isClean && after.isClean;
    pairs.push({ engineMs: mean([before.ms, after.ms]), socketMs: socket.ms, isClean });
    cleanPairs += Number(isClean);
    before = after;
  }
  const used = quietOf(pairs);
  return {
    promptTokens,
    enginePrefillMs: spread(used.map(({ engineMs }) => engineMs)),
    socketMs: spread(used.map(({ socketMs }) => socketMs)),
    overMs: spread(used.map(({ engineMs, socketMs }) => socketMs - engineMs)),
    cleanPairs,
    pairs: pairs.length,
  };
}

function streamCall(
  { model, server, vocabSize }: Sides,
  streams: number,
  promptTokens: number,
  maxTokens: number,
): Parameters<StreamClients['open']>[0] {
  const prompt = (): number[] => {
    prompts++;
    return Array.from(
      { length: promptTokens },
      (_, index) => FIRST_TOKEN + ((prompts * 31 + index * 7) % (vocabSize - FIRST_TOKEN)),
    );
  };
  return { url: server.url, model, prompts: Array.from({ length: streams }, prompt), maxTokens };
}

/** None of the processes runs meanwhile. */
async function whileHeld<T>(pids: readonly number[], measure: () => Promise<T>): Promise<T> {
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  try {
    return await measure();
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT');
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
