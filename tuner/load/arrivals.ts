/**
 * When requests are meant to start.
 *
 * In      a rate, or the offsets of a recorded trace
 * Out     times from the start of the load, rising, without end for a rate
 * Limits  a trace has at most MAX_TRACE_LINES lines
 * Errors  Error naming the file, the line and what is wrong with it
 * Why     what waits in the client because the server is slow still started when it was meant to: latency is counted from there
 */
import { readFileSync } from 'node:fs';
import { Random } from './random.js';

export const MAX_TRACE_LINES = 1_000_000;

/** One request of a trace; absent lengths: as the load says. */
export interface TraceLine {
  offsetMs: number;
  promptTokens?: number;
  maxNewTokens?: number;
}

/** Gaps of an exponential distribution: nobody knows of the others. */
export function* poissonArrivals(ratePerS: number, seed: number): Generator<number> {
  const random = new Random(seed, 'arrivals');
  for (let atMs = 0; ; ) {
    atMs += (1000 / ratePerS) * random.exponential();
    yield atMs;
  }
}

/** Equal gaps. */
export function* evenArrivals(ratePerS: number): Generator<number> {
  for (let index = 0; ; index++) yield (1000 * index) / ratePerS;
}

/** JSON lines: {"at_ms": 12.5, "prompt_tokens": 100, "max_new_tokens": 20}; sorted by time, the first at 0. */
export function readTrace(file: string): TraceLine[] {
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .map((text, index) => ({ text: text.trim(), number: index + 1 }))
    .filter(({ text }) => text !== '');
  if (lines.length === 0 || lines.length > MAX_TRACE_LINES) {
    throw new Error(`${file} has ${lines.length} requests; a trace has 1 … ${MAX_TRACE_LINES}`);
  }
  const trace = lines.map(({ text, number }) => traceLine(text, `${file}:${number}`));
  trace.sort((a, b) => a.offsetMs - b.offsetMs);
  const first = trace[0]!.offsetMs;
  return trace.map((line) => ({ ...line, offsetMs: line.offsetMs - first }));
}

function traceLine(text: string, where: string): TraceLine {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw new Error(`${where} is not JSON: ${text.slice(0, 80)}`);
  }
  const number = (field: string, least: number): number | undefined => {
    const given = value?.[field];
    if (given === undefined) return undefined;
    if (typeof given === 'number' && Number.isFinite(given) && given >= least) return given;
    throw new Error(`${where}: ${field} is ${JSON.stringify(given)}; it must be a number from ${least} on`);
  };
  const offsetMs = number('at_ms', 0);
  if (offsetMs === undefined) throw new Error(`${where}: at_ms is missing`);
  const promptTokens = number('prompt_tokens', 1);
  const maxNewTokens = number('max_new_tokens', 1);
  return {
    offsetMs,
    ...(promptTokens === undefined ? {} : { promptTokens }),
    ...(maxNewTokens === undefined ? {} : { maxNewTokens }),
  };
}
