/** The report of a bench as a table for people. */
import type { BenchReport } from './main.js';
import type { Spread } from './spread.js';

const cell = (text: string | number, width: number): string => String(text).padStart(width);
const range = ({ min, median, max }: Spread, digits: number): string =>
  `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`;

const scaled = ({ min, median, p95, max }: Spread, by: number): Spread => ({
  min: min * by,
  median: median * by,
  p95: p95 * by,
  max: max * by,
});

export function renderTable(report: BenchReport): string {
  const format = report.blockSize === null ? report.dtype : `${report.dtype}-${report.blockSize}`;
  const lines = [
    `${report.model}, ${format}, ${report.machine}; median (min–max)`,
    '',
    `${cell('tp', 3)} ${cell('', 4)} ${cell('threads', 8)}  ${cell('what', 22)} ${cell('ms a step', 26)} ${cell('tok/s', 26)}  compute + collective (of it waiting for the later rank) + choose, ms`,
  ];
  for (const group of report.groups) {
    const prefix = `${cell(group.tp, 3)} ${cell(group.tp === 1 ? '' : group.collective, 4)} ${cell(group.threads, 8)} `;
    const { prefill } = group;
    lines.push(
      `${prefix} ${cell(`prefill of ${prefill.tokens}`, 22)} ${cell('', 26)} ${cell(range(prefill.tokensPerSecond, 0), 26)}`,
    );
    for (const { context, sequences, split, stepMs, tokensPerSecond, bandwidthShare } of group.decode) {
      const [compute, collective, skew, choose] = [
        split.computeUs,
        split.collectiveUs,
        split.skewUs,
        split.chooseUs,
      ].map((us) => (us / 1000).toFixed(2));
      lines.push(
        `${prefix} ${cell(`decode × ${sequences}, at ${context}`, 22)} ${cell(range(stepMs, 2), 26)} ${cell(tokensPerSecond.toFixed(1), 26)}  ${compute} + ${collective} (skew ${skew}) + ${choose}; ${(bandwidthShare * 100).toFixed(0)} % of the bandwidth`,
      );
    }
    if (group.promptGap) {
      const { firstTokenMs, gapMs, largestGapMs, promptTokens, streams, usualGapMs } = group.promptGap;
      lines.push(
        `${prefix} ${streams} streams, gap ${range(usualGapMs, 1)} ms; largest beside a prompt of ${promptTokens} (at most ${gapMs} ms wanted): ${range(largestGapMs, 1)} ms; its first token after ${range(firstTokenMs, 0)} ms`,
      );
    }
    if (group.busy) {
      lines.push(
        `${prefix} ${cell(`beside ${group.busy.neighbours} busy`, 22)} ${cell(range(group.busy.stepMs, 2), 26)}`,
      );
    }
    const gigabytes = range(scaled(group.readBandwidth, 1e-9), 1);
    lines.push(
      `${prefix} reads ${gigabytes} GB/s; ${group.noisyRounds} of ${group.rounds} rounds beside other work`,
    );
    const memory = group.memory.map(({ pssBytes }) => `${(pssBytes / 1e6).toFixed(0)} MB`).join(', ');
    const allBytes = group.memory.reduce((sum, { pssBytes }) => sum + pssBytes, report.driverBytes);
    lines.push(
      `${prefix} ready in ${(group.loadMs / 1000).toFixed(2)} s; memory a rank (PSS): ${memory}; with the process that drives them ${(allBytes / group.neededBytes).toFixed(2)} × packed weights and keys and values (${(group.neededBytes / 1e6).toFixed(0)} MB)`,
    );
    for (const { bytesPerSecond, ms, peakBytes, rank, readyBytes } of group.loads) {
      lines.push(
        `${prefix} rank ${rank} loaded in ${ms.toFixed(0)} ms, ${(bytesPerSecond / 1e9).toFixed(2)} GB/s of its weights; resident at most ${(peakBytes / 1e6).toFixed(0)} MB, ready ${(readyBytes / 1e6).toFixed(0)} MB`,
      );
    }
  }
  lines.push(
    `The process that drives them, a server's place: ${(report.driverBytes / 1e6).toFixed(0)} MB (PSS), not in theirs`,
  );
  return lines.join('\n');
}
