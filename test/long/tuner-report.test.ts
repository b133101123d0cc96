/** The tuner's page in a real browser: no line on its console, nothing asked of any network, a picture and a PDF. Skipped without one (CHROME_PATH). */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { Goals } from '../../tuner/decide/goals.js';
import { readOptions } from '../../tuner/plan/tune-options.js';
import { browserPictures, findBrowser } from '../../tuner/report/browser-pictures.js';
import { summaryOf } from '../../tuner/report/summary.js';
import { writeReports } from '../../tuner/report/write-reports.js';
import type { Measurement } from '../../tuner/run/measurement.js';
import { TuneRun } from '../../tuner/run/tune-run.js';
import { MODEL, PlantedSurface } from '../fixtures/planted-surface.js';

const folder = mkdtempSync(path.join(tmpdir(), 'tuner-report-'));
afterAll(() => rmSync(folder, { recursive: true }));

it.skipIf(findBrowser() === null)(
  'the page in Chromium is silent, and is pictured',
  async () => {
    const surface = new PlantedSurface(1, 2, 0.03);
    const file = path.join(folder, 'plan.json');
    writeFileSync(file, JSON.stringify({ models: { [MODEL]: { path: '.' } } }));
    const { plan } = readOptions(['-f', file]);
    const measurements: Measurement[] = [];
    const { outcome } = await new TuneRun(
      {
        space: surface.space,
        loads: plan.loads,
        goals: new Goals(plan.models.map((model) => ({ ...model, model: model.name }))),
        ...{ search: plan.search, compare: plan.compare, verdict: plan.verdict },
      },
      {
        measure: surface.measure,
        store: { measurements, append: (one) => void measurements.push(one) },
        stop: { requested: false },
      },
    ).run();
    const header = { host: 'a formula' };
    const summary = summaryOf(outcome, plan, header.host);
    const files = writeReports({ plan, outcome, summary, header, at: '2026-11-30T00:00:00Z' }, folder);
    const page = files.find((one) => one.endsWith('.html'))!;
    const pictures = (await browserPictures(page))!;
    expect(pictures.console).toEqual([]);
    const [png, pdf] = ['.png', '.pdf'].map((ending) => page.replace('.html', ending));
    expect(pictures.files).toEqual([png, pdf]);
    expect(existsSync(png!) && readFileSync(png!).length > 50_000).toBe(true);
    expect(readFileSync(pdf!).subarray(0, 5).toString()).toBe('%PDF-');
  },
  200_000,
);
