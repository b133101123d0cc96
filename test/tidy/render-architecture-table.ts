/**
 * The table of partitioner/ARCHITECTURES.md: what becomes of every architecture that transformers knows. `npm run docs` writes it.
 *
 * In      test/support/architecture-outcomes.ts
 * Out     Markdown, the same on every machine
 */
import { architectureOutcomes, listedArchitectures } from '../support/architecture-outcomes.js';

export const ARCHITECTURES_FILE = 'partitioner/ARCHITECTURES.md';
export const ARCHITECTURES_START = '<!-- architectures -->';
export const ARCHITECTURES_END = '<!-- /architectures -->';

/** Without the markers, ending in a line break. */
export async function renderArchitectureTable(): Promise<string> {
  const outcomes = await architectureOutcomes();
  const families: string[] = [];
  const refusals = new Map<string, string[]>();
  for (const { name, kind, message } of outcomes) {
    if (kind === 'family') families.push(name);
    else {
      const reason = message
        .replace(/^folder(?:\/config\.json)?: /, '')
        .replace(/^\S+ is known, and not guessed by its tensors: /, '')
        .replace(/\. If its block .*$/, '')
        .replace(/^model_type \S+ is known.*$/, 'no family here answers to it');
      refusals.set(reason, [...(refusals.get(reason) ?? []), name]);
    }
  }
  const code = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(', ');
  const { madeWith } = listedArchitectures();
  return [
    `${outcomes.length} names of transformers ${madeWith.transformers}: ${families.length} have a family, ${outcomes.length - families.length} are refused, none is guessed.`,
    '',
    `Computed by a family: ${code(families)}.`,
    '',
    '| Refused, since | Architectures |',
    '|---|---|',
    ...[...refusals].sort().map(([reason, names]) => `| ${reason} | ${code(names)} |`),
    '',
  ].join('\n');
}
