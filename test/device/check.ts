/**
 * `npm run check:device`: the one command that proves a GPU's device on a machine that has one.
 *
 * In      nothing: WebGPU; --cuda: CUDA, with the libraries that `shardserve gpu install` has fetched; --software: WebGPU on the GPU in software that
 *         the tests use; --out FILE: where the table goes too (default check-device.txt), after every step
 * Out     a table; the last line is one sentence; exit code 0 only where every step is right
 * Limits  five minutes altogether, STEP_MS a step
 * Errors  no GPU, no Vulkan, no driver, no libraries: one sentence that names what is missing, exit code 1
 */
import { fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gpuReport } from '../../server/machine/gpu-report.js';
import { type CheckedRow, checkSentence, checkTable, isRight, stepLine } from './device-check.js';
import { type DeviceKind, deviceSteps } from './device-steps.js';
import { type ChildMessage, runSteps, type StepChild } from './run-steps.js';

const BUDGET_MS = 5 * 60 * 1000;
const STEP_MS = 90 * 1000;
/** The last that a failed process has written. */
const STDERR_CHARACTERS = 16_384;

const { values } = parseArgs({
  options: {
    cuda: { type: 'boolean', default: false },
    software: { type: 'boolean', default: false },
    out: { type: 'string', default: 'check-device.txt' },
  },
});
const kind: DeviceKind = values.cuda ? 'cuda' : values.software ? 'software' : 'webgpu';
process.exitCode = await main();

async function main(): Promise<number> {
  const startedMs = Date.now();
  const steps = deviceSteps(kind);
  const rows: CheckedRow[] = [];
  const { gpus } = gpuReport(process.env);
  const head = [
    `check:device ${kind}, ${new Date(startedMs).toISOString()}`,
    machineLine(),
    ...gpus.map(({ name, totalBytes }) => `${name}, ${((totalBytes ?? 0) / 2 ** 30).toFixed(1)} GiB`),
  ];
  const text = (): string =>
    [...head, ...checkTable(rows), checkSentence(rows, steps.length, Date.now() - startedMs), ''].join('\n');
  const result = await runSteps({
    names: steps.map(({ name }) => name),
    start: startChild,
    ...{ stepMs: STEP_MS, deadlineMs: startedMs + BUDGET_MS },
    onRow: (row) => {
      rows.push(row);
      console.error(stepLine(row));
      writeFileSync(values.out, text());
    },
  });
  if (typeof result === 'string') {
    console.log(`The device cannot be checked: ${result}`);
    return 1;
  }
  process.stdout.write(text());
  return rows.every(isRight) ? 0 : 1;
}

function startChild(first: number): StepChild {
  const program = fileURLToPath(new URL('check-child.js', import.meta.url));
  // Held back: what libraries say of a GPU that is missing is in the sentence.
  const child = fork(program, [kind, String(first)], { stdio: ['ignore', 'inherit', 'pipe', 'ipc'] });
  let written = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    written = (written + text).slice(-STDERR_CHARACTERS);
  });
  const messages: ChildMessage[] = [];
  child.on('message', (message) => messages.push(message as ChildMessage));
  const exited = once(child, 'exit').then(() => null);
  return {
    next: async () => {
      for (;;) {
        const message = messages.shift();
        if (message !== undefined) return message;
        if (child.exitCode !== null || child.signalCode !== null) return null;
        await Promise.race([once(child, 'message'), exited]);
      }
    },
    kill: () => child.kill('SIGKILL'),
    ending: () => {
      process.stderr.write(written);
      return child.signalCode === null ? `ended with ${child.exitCode}` : `was ended by ${child.signalCode}`;
    },
  };
}

/** What another's figures are to be told apart by. */
function machineLine(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const { stdout } = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' });
  const commit = stdout?.trim() ? ` (${stdout.trim()})` : '';
  const [cpu] = cpus();
  return `Shardserve ${version}${commit}, Node ${process.version}, ${process.platform} ${process.arch}, ${cpus().length} × ${cpu?.model ?? 'CPU'}`;
}
