/**
 * Damaged checkpoints: whatever is wrong with a file, loading ends in one sentence that names the file, or loads; never in a
 * crash, a hang, memory without end, or a read outside of the folder.
 *
 * In      how many cases of each kind
 * Out     a test a kind of damage. A case's seed is printed when it fails: TEST_SEED=<seed> makes it the first one
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { seededRandom, testSeed } from '../fixtures/seeded-random.js';
import { DAMAGE_KINDS } from '../support/checkpoint-damage.js';
import type { LoadReport } from '../support/checkpoint-load.js';

const CODES = ['CHECKPOINT_INVALID', 'TENSOR_PARALLEL_INVALID', 'CONFIG_INVALID', 'OUT_OF_MEMORY'];
/** What a message names: a file of the checkpoint, a tensor of it, or what stands in only one file. */
const NAMES = /\.(json|safetensors|model|jinja)\b|[Tt]ensor \S|chat template/;
const HEAP_MB = 512;
const MAX_PEAK_BYTES = 1 << 30;
/** Nothing here takes a second; this long is for ever. */
const HANG_MS = 60_000;

export function fuzzCheckpoints(cases: number): void {
  let scratch: string;
  let child: ChildProcess | null = null;
  beforeAll(() => {
    scratch = mkdtempSync(path.join(tmpdir(), 'fuzz-'));
  });
  afterAll(() => {
    child?.kill('SIGKILL');
    rmSync(scratch, { recursive: true });
  });

  function program(): ChildProcess {
    if (child !== null && child.exitCode === null && child.signalCode === null) return child;
    const file = fileURLToPath(new URL('../support/checkpoint-load.js', import.meta.url));
    child = fork(file, { execArgv: [`--max-old-space-size=${HEAP_MB}`], stdio: 'pipe' });
    return child;
  }

  /** What came of it, or how the process ended instead. */
  async function load(folder: string, store: string): Promise<LoadReport | string> {
    const running = program();
    let stderr = '';
    running.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-2000);
    });
    let hang: NodeJS.Timeout | undefined;
    const report = await new Promise<LoadReport | string>((resolve) => {
      hang = setTimeout(() => running.kill('SIGKILL'), HANG_MS);
      running.once('message', (message) => resolve(message as LoadReport));
      running.once('exit', (code, signal) =>
        resolve(
          signal === 'SIGKILL' ? `no end after ${HANG_MS} ms` : `ended with ${code ?? signal}: ${stderr}`,
        ),
      );
      running.send({ folder, store });
    });
    clearTimeout(hang);
    running.removeAllListeners('message').removeAllListeners('exit').stderr!.removeAllListeners('data');
    return report;
  }

  const entries = (): string[] => readdirSync(scratch, { recursive: true, encoding: 'utf8' }).sort();

  it.each(DAMAGE_KINDS.map(({ name, damage }) => [name, damage] as const))(
    `%s (seed ${testSeed})`,
    async (_name, damage) => {
      for (let round = 0; round < cases; round++) {
        const seed = testSeed + round;
        rmSync(scratch, { recursive: true, force: true });
        const folder = path.join(scratch, 'in', 'model');
        mkdirSync(path.dirname(folder), { recursive: true });
        const file = damage(folder, seededRandom(seed));
        const where = `TEST_SEED=${seed}, ${file}`;
        const before = entries();
        const report = await load(folder, path.join(scratch, 'store'));
        if (typeof report === 'string') throw new Error(`${where}: ${report}`);
        for (const { side, code, message, stack } of report.outcomes) {
          if (code === null) continue;
          expect(CODES, `${where}, ${side}: ${message.slice(0, 500)}\n${stack}`).toContain(code);
          expect(message, `${where}, ${side}`).toMatch(NAMES);
          expect(message.length, `${where}, ${side}: ${message.slice(0, 200)}`).toBeLessThan(1200);
        }
        expect(report.outside, where).toEqual([]);
        expect(report.peakBytes, where).toBeLessThan(MAX_PEAK_BYTES);
        expect(entries(), where).toEqual(before);
      }
    },
  );
}
