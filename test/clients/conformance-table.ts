/** CONFORMANCE.md: what each client's operation gave in the last run that wrote it. */
import { CLIENT_CASES } from './client-cases.js';

/** By client and operation; a sentence where it was not right. */
export type Outcomes = ReadonlyMap<string, string>;

export const outcomeKey = (program: string, operation: string): string => `${program}: ${operation}`;

export function conformanceTable(outcomes: Outcomes, date: string): string {
  const rows = CLIENT_CASES.flatMap(({ dialect, operations, program, requirement }) =>
    Object.keys(operations).map((operation) => {
      const outcome = outcomes.get(outcomeKey(program, operation)) ?? 'not run';
      return `| ${dialect} | ${requirement.replace('==', ' ')} | ${operation} | ${outcome} |`;
    }),
  );
  return [
    '# Other people’s clients',
    '',
    `Python clients beside the real engine (the embedded model, degree 2), each operation with what came of it on ${date}:`,
    '`npm run test:long -- python-clients` runs them (test/clients), with `WRITE_CONFORMANCE=1` it writes this table. “right” is: the same greedy text',
    'as DJLServing’s path gives, arguments that are valid to the tool’s schema, or the value that was expected. The npm clients of OpenAI, Anthropic',
    'and gRPC run in CI (test/e2e/openai-client, test/e2e/agents, test/integration/api/grpc).',
    '',
    '| Dialect | Client | Operation | Result |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}
