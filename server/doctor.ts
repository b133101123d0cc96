/**
 * `shardserve doctor --security [torchserve] [flags of start]`: what the server would open, to whom, and what it would write to.
 *
 * In      the arguments and environment that the server would be started with
 * Out     a row a listener, secret, path and setting; exit code 1 when one of them is bad. `--json`: the rows, for programs
 * Errors  CONFIG_INVALID: a configuration that no server would start with
 */
import { ALL_ENGINES } from './all-engines.js';
import { loadConfig } from './config/load-config.js';
import { loadTorchServe } from './config/torchserve/load-torchserve.js';
import { type SecurityRow, securityReport } from './security-report.js';

const HELP = `Usage: shardserve doctor --security [--json] [torchserve] [flags of start]

  Lists every listener, its address and scopes, every file of secrets and every folder that the server writes to,
  as it would be started with the same flags and environment (torchserve: by \`shardserve torchserve\`); ends with 1
  when one of them is bad.`;

export function main(argv: readonly string[]): number {
  const rest = argv.filter((argument) => argument !== '--security' && argument !== '--json');
  if (!argv.includes('--security') || rest.includes('--help') || rest.includes('-h')) {
    console.log(HELP);
    return argv.includes('--security') ? 0 : 2;
  }
  const sources = { env: process.env, cwd: process.cwd(), engines: Object.keys(ALL_ENGINES) };
  const config =
    rest[0] === 'torchserve'
      ? loadTorchServe({ ...sources, argv: rest.slice(1) })
      : loadConfig({ ...sources, argv: rest });
  const rows = securityReport(config);
  if (argv.includes('--json')) console.log(JSON.stringify(rows, null, 2));
  else for (const line of linesOf(rows)) console.log(line);
  return rows.some(({ level }) => level === 'bad') ? 1 : 0;
}

function linesOf(rows: readonly SecurityRow[]): string[] {
  const width = (field: 'level' | 'kind' | 'what') => Math.max(...rows.map((row) => row[field].length));
  const [level, kind, what] = [width('level'), width('kind'), width('what')];
  const bad = rows.filter((row) => row.level === 'bad').length;
  return [
    ...rows.map(
      (row) => `${row.level.padEnd(level)}  ${row.kind.padEnd(kind)}  ${row.what.padEnd(what)}  ${row.says}`,
    ),
    bad === 0 ? 'Nothing bad was found.' : `${bad} bad.`,
  ];
}
