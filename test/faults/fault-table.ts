/** The results of the fault matrix as a Markdown table: a row a fault and state, both ways of joining ranks beside each other. */
import { WAYS } from './ask.js';
import {
  type CellResult,
  COLLECTIVES,
  type CollectiveName,
  FAULTS,
  type Fault,
  STATES,
} from './fault-matrix.js';

const NAMES: Record<Fault, string> = {
  kill: 'SIGKILL',
  stop: 'SIGSTOP',
  'exhaust-memory': 'out of memory (control group)',
  garbage: 'garbage frame',
  partial: 'partial frame',
  slow: 'slow × 20',
  'full-shm': 'full /dev/shm, then SIGKILL',
  'full-disk': 'full disk, then SIGKILL',
};
const JOINED: Record<CollectiveName, string> = { shm: 'shared memory', zmq: 'ZeroMQ' };

export function renderFaults(results: readonly CellResult[]): string {
  const header = COLLECTIVES.flatMap((name) => [
    `${JOINED[name]}: answered (${WAYS.join(', ')})`,
    'wrong, doubled',
    'next token, ms: median, worst',
  ]);
  const rows = FAULTS.flatMap((fault) =>
    STATES.flatMap((state) => {
      const cells = COLLECTIVES.map((collective) =>
        results.filter((one) => one.fault === fault && one.state === state && one.collective === collective),
      );
      if (cells.every((rounds) => rounds.length === 0)) return [];
      return [[NAMES[fault], state, ...cells.flatMap(cellTexts)]];
    }),
  );
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['Fault', 'state', ...header]),
    line(['---', '---', ...header.map(() => '---')]),
    ...rows.map(line),
  ].join('\n');
}

/** @param rounds of one cell */
function cellTexts(rounds: readonly CellResult[]): string[] {
  const [first] = rounds;
  if (first === undefined) return ['', '', ''];
  if (first.skipped !== null) return [`skipped: ${first.skipped}`, '', ''];
  const sum = (value: (round: CellResult) => number): number =>
    rounds.reduce((all, one) => all + value(one), 0);
  const answered = WAYS.map((way) => `${sum((one) => one.answered[way])} of ${sum((one) => one.asked[way])}`);
  const gaps = rounds.flatMap(({ gapsMs }) => gapsMs).sort((a, b) => a - b);
  const times = gaps.length === 0 ? '–' : `${medianOf(gaps).toFixed(0)}, ${gaps.at(-1)!.toFixed(0)}`;
  return [answered.join(', '), `${sum((one) => one.wrong)}, ${sum((one) => one.doubled)}`, times];
}

/** @param sorted not empty */
export const medianOf = (sorted: readonly number[]): number =>
  (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
