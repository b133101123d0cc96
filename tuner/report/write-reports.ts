/**
 * Every file that a tuning leaves behind.
 *
 * In      plan, outcome, conditions, the folder
 * Out     results/*.csv, reports/summary.md, winner/…; their paths
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gpuDescription } from '../target/conditions.js';
import { htmlReport } from './html-report.js';
import { markdownReport, type ReportInput } from './markdown-report.js';
import { allTable, csvOf, gpuTable, inferenceTable, SERVER_ONLY } from './tables.js';
import { winnerFiles } from './winner-files.js';

const INFERENCE_CSV = 'metrics-model-inference.csv';
const GPU_CSV = 'metrics-model-gpu.csv';
const SERVER_CSV = 'metrics-server-only.csv';

export function writeReports(input: ReportInput, folder: string): string[] {
  const { outcome, plan, summary } = input;
  const written: string[] = [];
  const write = (file: string, text: string): void => {
    const target = path.join(folder, file);
    mkdirSync(path.dirname(target), { recursive: true });
    writeFileSync(target, text);
    written.push(target);
  };
  const gpu = gpuDescription();
  write(`results/${INFERENCE_CSV}`, csvOf(inferenceTable(outcome, plan)));
  write(`results/${GPU_CSV}`, csvOf(gpuTable(outcome, plan, gpu)));
  write(`results/${SERVER_CSV}`, csvOf(SERVER_ONLY));
  write('results/measurements.csv', csvOf(allTable(outcome, plan)));
  write('reports/summary.md', markdownReport(input));
  write('reports/report.html', htmlReport(input));
  // What an earlier run left would be taken for this one's.
  rmSync(path.join(folder, 'winner'), { recursive: true, force: true });
  if (summary.winner !== null) {
    for (const [file, text] of winnerFiles(plan, summary.winner.settings, summary.headline)) {
      write(path.join('winner', file), text);
    }
  }
  return written;
}
