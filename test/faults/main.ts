/**
 * `npm run faults`: every fault × state × way of asking × way of joining ranks, then many requests under kills; tables in Markdown.
 *
 * In      options: see HELP
 * Out     tables on standard output, progress on standard error; exit code 1 when a request was lost, wrong or doubled
 */
import { appendFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { ServerProcess } from '../support/server-process.js';
import { WAYS } from './ask.js';
import { type CellResult, COLLECTIVES, FAULTS, FaultMatrix, STATES } from './fault-matrix.js';
import { renderFaults } from './fault-table.js';
import { KILL_RUN_ENVIRONMENT, type KillRunResult, killRun } from './kill-run.js';

const HELP = `Usage: npm run faults -- [options]

  --only NAME,NAME    faults, of ${FAULTS.join(', ')} (default all; none: the matrix is not run)
  --rounds N          times that each cell is run (default 1)
  --per-way N         requests of each way in a cell (default 2: one greedy, one sampled)
  --requests N        requests under kills (default 10000; 0: not run)
  --clients N         that send them (default 16)
  --kill-every S      seconds between two kills (default 2)
  --groups N          worker groups that serve them (default 1)
  --log FILE          the servers' log lines of the matrix`;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: FAULTS.join(',') },
    rounds: { type: 'string', default: '1' },
    'per-way': { type: 'string', default: '2' },
    requests: { type: 'string', default: '10000' },
    clients: { type: 'string', default: '16' },
    'kill-every': { type: 'string', default: '2' },
    groups: { type: 'string', default: '1' },
    log: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

function whole(name: 'rounds' | 'per-way' | 'requests' | 'clients' | 'groups', least: number): number {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < least)
    throw new Error(`--${name} is a whole number from ${least} on`);
  return value;
}

async function runMatrix(): Promise<CellResult[]> {
  const faults = FAULTS.filter((fault) => values.only.split(',').includes(fault));
  const results: CellResult[] = [];
  if (faults.length === 0) return results;
  for (const collective of COLLECTIVES) {
    const matrix = await FaultMatrix.start(collective, whole('per-way', 1));
    try {
      for (let round = 0; round < whole('rounds', 1); round++) {
        for (const fault of faults) {
          for (const state of STATES) {
            const result = await matrix.run(fault, state);
            results.push(result);
            console.error(`${collective} ${fault} ${state}: ${inShort(result)}`);
            for (const problem of result.problems) console.error(`  ${problem}`);
          }
        }
      }
    } finally {
      if (values.log !== undefined) {
        const lines = matrix.faulty.server.lines.map((one) => `${JSON.stringify(one)}\n`);
        appendFileSync(values.log, lines.join(''));
      }
      await matrix.stop();
    }
  }
  return results;
}

function inShort({ answered, asked, deaths, doubled, skipped, wrong }: CellResult): string {
  if (skipped !== null) return `skipped: ${skipped}`;
  const sum = (counts: Record<string, number>): number =>
    WAYS.reduce((all, way) => all + (counts[way] ?? 0), 0);
  return `${sum(answered)} of ${sum(asked)} answered, ${wrong} wrong, ${doubled} doubled; died: ${deaths.join('; ') || 'none'}`;
}

async function runKills(requests: number): Promise<[KillRunResult, KillRunResult]> {
  const groups = String(whole('groups', 1));
  const server = await ServerProcess.start({
    ...KILL_RUN_ENVIRONMENT,
    ...{ SERVING_MIN_WORKERS: groups, SERVING_MAX_WORKERS: groups },
  });
  try {
    const clients = whole('clients', 1);
    const killEveryMs = Number(values['kill-every']) * 1000;
    const onProgress = (done: number): void => {
      if (done % 500 === 0) console.error(`${done} requests`);
    };
    // As many as give a rate.
    const calm = await killRun(server, {
      requests: Math.min(requests, 2000),
      clients,
      killEveryMs: null,
      onProgress,
    });
    const killed = await killRun(server, { requests, clients, killEveryMs, onProgress });
    return [calm, killed];
  } finally {
    await server.stop();
  }
}

function killTable([calm, killed]: readonly [KillRunResult, KillRunResult]): string {
  const row = (name: string, result: KillRunResult): string =>
    `| ${name} | ${result.asked} | ${result.lost} | ${result.wrong} | ${result.kills} | ${result.requestsPerSecond.toFixed(1)} | ${result.medianMs.toFixed(0)}, ${result.worstMs.toFixed(0)} |`;
  return [
    '| | requests | lost | wrong | ranks killed | requests/s | ms a request: median, worst |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    row('undisturbed', calm),
    row(`a kill every ${values['kill-every']} s, ${values.clients} clients`, killed),
    '',
    `Under kills × ${(killed.requestsPerSecond / calm.requestsPerSecond).toFixed(2)} of the undisturbed throughput.`,
  ].join('\n');
}

if (values.help) {
  console.log(HELP);
} else {
  console.log(
    `${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores\n`,
  );
  let bad = 0;
  const results = await runMatrix();
  if (results.length > 0) console.log(`${renderFaults(results)}\n`);
  for (const { doubled, problems } of results) bad += doubled + problems.length;
  const requests = whole('requests', 0);
  if (requests > 0) {
    const pair = await runKills(requests);
    console.log(killTable(pair));
    for (const { lost, problems, wrong } of pair) {
      bad += lost + wrong;
      for (const problem of problems.slice(0, 20)) console.error(problem);
    }
  }
  process.exitCode = bad === 0 ? 0 : 1;
}
