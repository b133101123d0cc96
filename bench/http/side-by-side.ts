/**
 * The measurements of bench:http: the server's sockets and the bare engine in turns, with the same work.
 *
 * In      a running server with its clients, a running group
 * Out     pairs, and what they come to
 * Limits  the engine steps as many tokens, from about the context at which all streams run: streams begin one after the other
 */
import { NOISE_LIMIT, watchCpu } from '../cpu-use.js';
import type { GroupUnderTest } from '../group-under-test.js';
import { type Spread, spread } from '../spread.js';
import type { ServerUnderTest } from './server-under-test.js';
import type { StreamClients, StreamRun } from './stream-clients.js';

const PAUSE_MS = 50;
/** Of a made-up prompt: beyond the special tokens. */
const FIRST_TOKEN = 300;

export interface Sides {
  clients: StreamClients;
  engine: GroupUnderTest;
  model: string;
  server: ServerUnderTest;
  vocabSize: number;
}

export interface StreamsReport {
  streams: number;
  engineTokensPerSecond: Spread;
  socketTokensPerSecond: Spread;
  /** Socket to engine, of each pair. */
  ratio: Spread;
  gapMs: Spread;
  firstTokenMs: Spread;
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
  /** Socket less engine, of each pair. */
  overMs: Spread;
}

let prompts = 0;

export async function measureStreams(
  sides: Sides,
  streams: number,
  sizes: { prompt: number; tokens: number; repeat: number },
): Promise<StreamsReport> {
  const { engine, server } = sides;
  const pairs: { engine: number; run: StreamRun; serverCpu: number; isClean: boolean }[] = [];
  const measureEngine = async (): Promise<number> => {
    await pause();
    // While the prompts of the others run a stream makes up to two tokens for each: the mean stream is so far when all run.
    const opens = await engine.openDecodes(0, streams, sizes.prompt + streams, sizes.tokens + 2);
    await engine.runDecodes(opens, 2);
    const { ms } = await engine.runDecodes(opens, sizes.tokens - 2);
    await engine.closeDecodes(opens);
    return (streams * 1000) / ms;
  };
  const measureServer = async () => {
    await pause();
    const done = watchCpu([server.pid]);
    const run = await runStreams(sides, streams, sizes.prompt, sizes.tokens + 2 * streams);
    return { run, serverCpu: done().own[0] ?? 0 };
  };
  for (let round = 0; round <= sizes.repeat; round++) {
    const done = watchCpu(allPids(sides));
    const before = round % 2 === 0 ? await measureEngine() : null;
    const { run, serverCpu } = await measureServer();
    const tokensPerSecond = before ?? (await measureEngine());
    const isClean = done().others <= NOISE_LIMIT;
    if (round > 0) pairs.push({ engine: tokensPerSecond, run, serverCpu, isClean });
  }
  const clean = pairs.filter(({ isClean }) => isClean);
  const used = clean.length * 2 >= pairs.length ? clean : pairs;
  return {
    streams,
    engineTokensPerSecond: spread(used.map((pair) => pair.engine)),
    socketTokensPerSecond: spread(used.map(({ run }) => run.tokensPerSecond)),
    ratio: spread(used.map((pair) => pair.run.tokensPerSecond / pair.engine)),
    gapMs: spread(used.flatMap(({ run }) => run.gapsMs)),
    firstTokenMs: spread(used.map(({ run }) => run.firstTokenMs)),
    clientCpu: spread(used.map(({ run }) => run.clientCpu)).median,
    serverCpu: spread(used.map((pair) => pair.serverCpu)).median,
    cleanPairs: clean.length,
    pairs: pairs.length,
  };
}

/** One stream: from the request until its first token is at the client, against the engine's prefill of as many tokens. */
export async function measureFirstToken(
  sides: Sides,
  promptTokens: number,
  repeat: number,
): Promise<FirstTokenReport> {
  const pairs: { engineMs: number; socketMs: number }[] = [];
  for (let round = 0; round <= repeat; round++) {
    await pause();
    const engineMs = await sides.engine.prefillMs(promptTokens);
    await pause();
    const { firstTokenMs } = await runStreams(sides, 1, promptTokens, 2);
    if (round > 0) pairs.push({ engineMs, socketMs: firstTokenMs });
  }
  return {
    promptTokens,
    enginePrefillMs: spread(pairs.map(({ engineMs }) => engineMs)),
    socketMs: spread(pairs.map(({ socketMs }) => socketMs)),
    overMs: spread(pairs.map(({ engineMs, socketMs }) => socketMs - engineMs)),
  };
}

function runStreams(
  { clients, model, server, vocabSize }: Sides,
  streams: number,
  promptTokens: number,
  maxTokens: number,
): Promise<StreamRun> {
  const prompt = (): number[] => {
    prompts++;
    return Array.from(
      { length: promptTokens },
      (_, index) => FIRST_TOKEN + ((prompts * 31 + index * 7) % (vocabSize - FIRST_TOKEN)),
    );
  };
  return clients.run({
    url: server.url,
    model,
    prompts: Array.from({ length: streams }, prompt),
    maxTokens,
  });
}

const allPids = ({ clients, engine, server }: Sides): (number | undefined)[] => [
  server.pid,
  ...server.workerPids(),
  clients.pid,
  ...engine.pids,
];

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
