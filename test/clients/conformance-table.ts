/** CONFORMANCE.md: what each client's operation gave in the last run that wrote it; and its sum, for the README. */
import { CLIENT_CASES, type ClientCase } from './client-cases.js';

/** By client and operation; a sentence where it was not right. */
export type Outcomes = ReadonlyMap<string, string>;

export const outcomeKey = (program: string, operation: string): string => `${program}: ${operation}`;

export function conformanceTable(outcomes: Outcomes, date: string): string {
  const rows = CLIENT_CASES.flatMap((client) =>
    Object.keys(client.operations).map((operation) => {
      const outcome = outcomes.get(outcomeKey(client.program, operation)) ?? 'not run';
      return rowOf(client, operation, outcome);
    }),
  );
  return [
    '# Other people’s clients',
    '',
    `Other people’s clients beside the real engine (the embedded model, degree 2), each operation with what came of it on ${date}:`,
    '`npm run test:long -- python-clients` runs them (test/clients), with `WRITE_CONFORMANCE=1` it writes this table. “right” is: the same greedy text',
    'as DJLServing’s path gives, arguments that are valid to the tool’s schema, or the value that was expected. What of npm’s clients runs in CI:',
    'test/e2e/openai-client, test/e2e/agents, test/integration/api/grpc.',
    '',
    '| Dialect | Client | Operation | Result |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

export function rowOf(
  { dialect, kind, requirement }: ClientCase,
  operation: string,
  outcome: string,
): string {
  const client = `${requirement.replace('==', ' ')}${kind === 'npm' ? ' (npm)' : ''}`;
  return `| ${dialect} | ${client} | ${operation} | ${outcome} |`;
}

export const SUMMARY_START = '<!-- clients -->';
export const SUMMARY_END = '<!-- /clients -->';

/** A line a dialect: its clients, and how many of their operations are right. Without the markers. @param table CONFORMANCE.md */
export function conformanceSummary(table: string): string {
  const dialects = new Map<string, { clients: Set<string>; asked: number; right: number }>();
  for (const row of table
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(1)) {
    const [dialect = '', client = '', , result] = row.slice(2, -2).split(' | ');
    const sum = dialects.get(dialect) ?? { clients: new Set(), asked: 0, right: 0 };
    dialects.set(dialect, sum);
    sum.clients.add(client);
    sum.asked += 1;
    if (result === 'right') sum.right += 1;
  }
  const rows = [...dialects].map(
    ([dialect, { asked, clients, right }]) =>
      `| ${dialect} | ${[...clients].join(', ')} | ${right} of ${asked} |`,
  );
  return `${['| Dialect | Clients | Operations right |', '|---|---|---|', ...rows].join('\n')}\n`;
}
