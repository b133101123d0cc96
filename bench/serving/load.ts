/**
 * One measurement of one server: a burst of requests to its end, or a long prompt beside streams that run.
 *
 * In      a server of /v1/completions that streams an event a token; sizes
 * Out     BurstFigures
 * Errors  Error with what a stream said
 */
import { monotonicMs } from '../../tuner/load/monotonic.js';
import { StreamClients } from '../http/stream-clients.js';
import { spread } from '../spread.js';

export interface LoadTarget {
  name: string;
  url: string;
  model: string;
}

export interface BurstFigures {
  /** Tokens until the end, or until the burst was cut. */
  tokensPerSecond: number;
  /** What a burst that was cut had asked for by the time it was given: more it cannot have reached; null where it came to its end. */
  atMostPerSecond: number | null;
  /** Infinity where half of the requests had none when the burst was cut. */
  firstTokenMs: number;
  firstTokenP95Ms: number;
  /** Mean of a request, the median of requests. */
  tokenMs: number;
  worstGapMs: number;
}

/** Ids that differ from run to run, so that no prefix cache helps. */
const promptOf = (seed: number, client: number, tokens: number): number[] =>
  Array.from(
    { length: tokens },
    (_, index) => 5 + ((seed * 7919 + client * 104_729 + index * (31 + seed)) % 900),
  );

const gapsOf = (tokens: readonly number[]): number[] =>
  tokens.slice(1).map((at, index) => at - tokens[index]!);

export async function measureBurst(
  { model, url }: LoadTarget,
  clients: number,
  size: { prompt: number; answer: number },
  seed: number,
  withinMs: number,
): Promise<BurstFigures> {
  const load = new StreamClients();
  try {
    const prompts = Array.from({ length: clients }, (_, client) => promptOf(seed, client, size.prompt));
    const startedMs = monotonicMs();
    const answers = await load.burst({ url, model, prompts, maxTokens: size.answer }, withinMs);
    // The last two events of a stream are none of a token.
    const streams = answers.map((tokens) => tokens.slice(0, size.answer));
    const count = streams.flat().length;
    const isCut = count < clients * size.answer;
    const first = spread(streams.map(([at = Number.POSITIVE_INFINITY]) => at - startedMs));
    const begun = streams.filter(({ length }) => length > 1);
    return {
      tokensPerSecond: (1000 * count) / (isCut ? withinMs : Math.max(...streams.flat()) - startedMs),
      atMostPerSecond: isCut ? (1000 * clients * size.answer) / withinMs : null,
      firstTokenMs: first.median,
      firstTokenP95Ms: first.p95,
      tokenMs: spread(begun.map((tokens) => (tokens.at(-1)! - tokens[0]!) / (tokens.length - 1))).median,
      worstGapMs: Math.max(0, ...streams.flatMap(gapsOf)),
    };
  } finally {
    load.stop();
  }
}

/** First token: of the long prompt. Time a token and gaps: of the streams while it ran. */
export async function measureBeside(
  { model, url }: LoadTarget,
  streams: number,
  promptTokens: number,
  seed: number,
): Promise<BurstFigures> {
  const running = new StreamClients();
  const long = new StreamClients();
  try {
    const prompts = Array.from({ length: streams }, (_, client) => promptOf(seed, client, 16));
    await running.open({ url, model, prompts, maxTokens: 600 });
    const fromMs = monotonicMs();
    const firstTokenMs = await long.open({
      url,
      model,
      prompts: [promptOf(seed, 99, promptTokens)],
      maxTokens: 2,
    });
    const untilMs = fromMs + firstTokenMs;
    const tokens = (await running.close()).map((each) =>
      each.filter((at) => at >= fromMs - 1000 && at <= untilMs + 500),
    );
    await long.close();
    const gaps = tokens.flatMap(gapsOf);
    return {
      tokensPerSecond: (1000 * gaps.length) / (untilMs - fromMs),
      atMostPerSecond: null,
      firstTokenMs,
      firstTokenP95Ms: firstTokenMs,
      tokenMs: spread(gaps).median,
      worstGapMs: Math.max(0, ...gaps),
    };
  } finally {
    running.stop();
    long.stop();
  }
}
