/** The tuner's journal on a real disk: cut anywhere, written by another host, written twice, resumed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Goals } from '../../../tuner/decide/goals.js';
import { Journal, JournalDamaged, JournalMismatch, readJournal } from '../../../tuner/journal/journal.js';
import { Random } from '../../../tuner/load/random.js';
import type { Measurement } from '../../../tuner/run/measurement.js';
import { TuneRun } from '../../../tuner/run/tune-run.js';
import { MODEL, PlantedSurface } from '../../fixtures/planted-surface.js';

const HEADER = { host: 'a machine', build: 'abc' };
const CAREFUL = { force: false };
const GOALS = new Goals([
  { model: MODEL, weight: 1, constraints: [], objectives: [{ metric: 'throughput_per_s', weight: 1 }] },
]);

let folder = '';
let file = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'tuner-journal-'));
  file = path.join(folder, 'journal.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** @param stopAfter asks to stop while that measurement runs, as Ctrl-C does */
async function tune(journal: Journal, seed: number, stopAfter = Number.POSITIVE_INFINITY) {
  const surface = new PlantedSurface(seed, 2, 0);
  const stop = { requested: false };
  const result = await new TuneRun(
    {
      space: surface.space,
      loads: [{ kind: 'concurrency', value: 16 }],
      goals: GOALS,
      search: { mode: 'climb', maxMeasurements: 20, maxMs: null, patience: 0, seed, leaveEarly: true },
      compare: { top: 3, rounds: 3 },
      verdict: { level: 0.95, leastGain: 0 },
    },
    {
      measure: async (question) => {
        if (surface.measurements + 1 >= stopAfter) stop.requested = true;
        return surface.measure(question);
      },
      store: journal,
      stop,
    },
  ).run();
  return { ...result, made: surface.measurements };
}

describe('a journal', () => {
  it('on a disk that takes half a line keeps none of it, and goes on when there is room for another', () => {
    const module = new URL('../../../tuner/journal/journal.js', import.meta.url).href;
    const script = `import { Journal } from '${module}';
      process.on('SIGXFSZ', () => {});
      const journal = Journal.open('${file}', { host: 'here' }, { force: false });
      for (const size of [100, 2000, 50]) {
        try { journal.append({ text: 'x'.repeat(size) }); } catch (error) { process.stdout.write(error.code); }
      }`;
    const limited = `ulimit -f 1; exec ${process.execPath} --input-type=module -e "$0"`;
    const { stdout } = spawnSync('bash', ['-c', limited, script], { encoding: 'utf8' });
    expect(stdout).toBe('EFBIG');
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    const lengths = lines.slice(1).map((line) => (JSON.parse(line) as { text: string }).text.length);
    expect(lengths).toEqual([100, 50]);
  });

  it('gives back what was measured, and goes on behind it', async () => {
    const first = Journal.open(file, HEADER, CAREFUL);
    const { outcome } = await tune(first, 1);
    first.close();
    const again = Journal.open(file, HEADER, CAREFUL);
    expect(again.measurements).toHaveLength(20 + 4 * 3);
    const resumed = await tune(again, 1);
    again.close();
    expect(resumed.made).toBe(0);
    expect(resumed.outcome).toEqual(outcome);
  });

  it('is read up to its last whole line, cut at any byte', async () => {
    const journal = Journal.open(file, HEADER, CAREFUL);
    await tune(journal, 2, 4);
    journal.close();
    const whole = readFileSync(file);
    const ends = [...whole.entries()].filter(([, byte]) => byte === 10).map(([at]) => at + 1);
    expect(ends).toHaveLength(5);
    for (let cut = 0; cut <= whole.length; cut++) {
      writeFileSync(file, whole.subarray(0, cut));
      const lines = ends.filter((end) => end <= cut).length;
      expect(readJournal(file)?.measurements.length ?? -1, `cut at ${cut}`).toBe(lines - 1);
    }
  });

  it('written on after a cut, is a journal again', async () => {
    const journal = Journal.open(file, HEADER, CAREFUL);
    await tune(journal, 3, 5);
    journal.close();
    truncateSync(file, readFileSync(file).length - 7);
    const again = Journal.open(file, HEADER, CAREFUL);
    expect(again.measurements).toHaveLength(4);
    const { made } = await tune(again, 3);
    again.close();
    expect(made).toBe(32 - 4);
    expect(readJournal(file)!.measurements).toHaveLength(32);
  });

  it('of another host or build is refused, with what differs, unless forced', () => {
    Journal.open(file, HEADER, CAREFUL).close();
    const other = { host: 'another machine', build: 'abc' };
    expect(() => Journal.open(file, other, CAREFUL)).toThrow(JournalMismatch);
    expect(() => Journal.open(file, other, CAREFUL)).toThrow(/host was a machine and is another machine/);
    Journal.open(file, other, { force: true }).close();
    Journal.open(file, HEADER, CAREFUL).close();
  });

  it('has one writer; that of a process that is gone is nobody', () => {
    const journal = Journal.open(file, HEADER, CAREFUL);
    expect(() => Journal.open(file, HEADER, CAREFUL)).toThrow(/is measuring into this journal/);
    journal.close();
    // No process has this pid: the kernel's largest is 4194304.
    writeFileSync(`${file}.lock`, '4194305\n');
    Journal.open(file, HEADER, CAREFUL).close();
  });

  it('with a line that is none is damaged, and says which', () => {
    writeFileSync(file, '{"journal":1,"header":{}}\nnonsense\n');
    expect(() => readJournal(file)).toThrow(JournalDamaged);
    expect(() => readJournal(file)).toThrow(/:2 is not JSON: nonsense/);
    writeFileSync(file, '{"journal":7,"header":{}}\n');
    expect(() => readJournal(file)).toThrow(/no journal of format 1/);
  });
});

it('Ctrl-C at any of twenty moments, then resumed: nothing is lost, nothing is measured twice', async () => {
  const random = new Random(19, 'moments');
  for (let seed = 0; seed < 20; seed++) {
    file = path.join(folder, `journal-${seed}.jsonl`);
    const uncut = await tune({ measurements: [], append: () => {} } as unknown as Journal, seed);
    const moment = 1 + random.whole(uncut.made - 1);
    const first = Journal.open(file, HEADER, CAREFUL);
    const stopped = await tune(first, seed, moment);
    first.close();
    expect(stopped.wasStopped).toBe(true);
    expect(stopped.made).toBe(moment);
    const second = Journal.open(file, HEADER, CAREFUL);
    const resumed = await tune(second, seed);
    second.close();
    expect(resumed.made).toBe(uncut.made - moment);
    const kept = readJournal(file)!.measurements;
    expect(new Set(kept.map(({ key }: Measurement) => key)).size).toBe(uncut.made);
    expect(resumed.outcome.ranked.map(({ name, settings }) => ({ name, settings }))).toEqual(
      uncut.outcome.ranked.map(({ name, settings }) => ({ name, settings })),
    );
  }
});
