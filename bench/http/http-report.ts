/** The report of bench:http: a table for people, or a line of JSON a measurement. */
import type { Spread } from '../spread.js';
import type { FirstTokenReport, StreamsReport } from './side-by-side.js';

export interface HttpReport {
  model: string;
  machine: string;
  sizes: { prompt: number; steps: number };
  streams: StreamsReport[];
  firstToken: FirstTokenReport | null;
}

const range = ({ min, median, max }: Spread, digits: number): string =>
  `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

export function renderHttp({ firstToken, machine, model, sizes, streams }: HttpReport): string {
  const lines = [
    `${model}, int4, ${machine}; prompts of ${sizes.prompt}, slices of ${sizes.steps} steps; median (min–max)`,
    '',
  ];
  for (const each of streams) {
    lines.push(
      `${String(each.streams).padStart(3)} streams  engine ${range(each.engineTokensPerSecond, 1)} tok/s, socket ${range(each.socketTokensPerSecond, 1)}; ` +
        `ratio ${range(each.ratio, 3)}; ${each.cleanPairs} of ${each.pairs} slices quiet`,
      `             gap ${range(each.gapMs, 1)} ms, p95 ${each.gapMs.p95.toFixed(1)}; all run after ${each.firstTokenMs.toFixed(0)} ms; ` +
        `of a core: clients ${percent(each.clientCpu)}, server ${percent(each.serverCpu)}`,
    );
  }
  if (firstToken) {
    lines.push(
      `first token of one stream, prompt of ${firstToken.promptTokens}: engine ${range(firstToken.enginePrefillMs, 1)} ms, ` +
        `socket ${range(firstToken.socketMs, 1)} ms; ${range(firstToken.overMs, 1)} ms more; ` +
        `${firstToken.cleanPairs} of ${firstToken.pairs} pairs quiet`,
    );
  }
  return lines.join('\n');
}

/** Each line stands alone: it says what was run on what. */
export function httpJsonLines({ firstToken, streams, ...head }: HttpReport): string {
  return [
    ...streams.map((measured) => ({ ...head, measured: 'streams', ...measured })),
    ...(firstToken === null ? [] : [{ ...head, measured: 'first token', ...firstToken }]),
  ]
    .map((line) => JSON.stringify(line))
    .join('\n');
}
