/** The table of bench:serving: a line a server, medians of its rounds with the range of the tokens a second. */
import { spread } from '../spread.js';
import type { BurstFigures } from './load.js';

export function renderServing(
  title: string,
  rows: readonly { name: string; rounds: readonly BurstFigures[] }[],
): string {
  const lines = rows.map(({ name, rounds }) => {
    const of = (field: keyof BurstFigures) => spread(rounds.map((round) => round[field] ?? Number.NaN));
    const speed = of('tokensPerSecond');
    const cut = rounds.flatMap(({ atMostPerSecond }) => atMostPerSecond ?? []);
    const cutText = cut.length > 0 ? `; cut: to its end at most ${Math.max(...cut).toFixed(1)} tok/s` : '';
    return (
      `  ${name.padEnd(12)} ${speed.median.toFixed(1)} tok/s (${speed.min.toFixed(1)}–${speed.max.toFixed(1)}); first token ` +
      `${of('firstTokenMs').median.toFixed(0)} ms, p95 ${of('firstTokenP95Ms').median.toFixed(0)}; a token ${of('tokenMs').median.toFixed(1)} ms; ` +
      `largest gap ${of('worstGapMs').median.toFixed(0)} ms${cutText}`
    );
  });
  return [title, ...lines].join('\n');
}
