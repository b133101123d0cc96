/** `tune` and `benchmark` on the product's own HTTP server with a model that is a fake: journals, reports, exit codes. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { main as benchmark } from '../../../tuner/benchmark.js';
import { main as tune } from '../../../tuner/tune.js';
import { startServer, type TestServer } from '../../support/http-fixtures.js';

let server: TestServer;
let folder = '';
const said: string[] = [];
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.server.close());
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'tuner-commands-'));
  said.length = 0;
  const take = (text: string | Uint8Array): boolean => said.push(String(text)) > 0;
  vi.spyOn(process.stdout, 'write').mockImplementation(take as typeof process.stdout.write);
  vi.spyOn(process.stderr, 'write').mockImplementation(take as typeof process.stderr.write);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

const inFolder = (name: string): string => path.join(folder, name);
const read = (name: string): string => readFileSync(inFolder(name), 'utf8');

/** Windows as short as they may be: what is tested is not the figures. */
function planFile(more: object = {}): string {
  const plan = {
    models: { mlp: {} },
    server: { url: server.url },
    request: { prompt_tokens: 4, output_tokens: 2 },
    load: {
      ...{ concurrency: [1, 2], warm_up_seconds: 0.02, warm_up_requests: 1 },
      ...{ window_seconds: 0.05, window_requests: 2, max_windows: 3, within: 10 },
    },
    search: { mode: 'grid' },
    pictures: false,
    output: inFolder('out'),
    ...more,
  };
  writeFileSync(inFolder('plan.json'), JSON.stringify(plan));
  return inFolder('plan.json');
}

describe('tune', () => {
  it('measures a server that runs, writes its reports, and measures nothing twice', async () => {
    const file = planFile({ keep_requests: true });
    expect(await tune(['-f', file])).toBe(0);
    const journal = read('out/journal.jsonl');
    expect(journal.trim().split('\n')).toHaveLength(1 + 2);
    expect(readdirSync(inFolder('out/results')).sort()).toEqual([
      ...['measurements.csv', 'metrics-model-gpu.csv', 'metrics-model-inference.csv'],
      ...['metrics-server-only.csv', 'requests.jsonl'],
    ]);
    expect(read('out/results/metrics-model-inference.csv')).toMatch(
      /^Model,Batch,Concurrency,Model Config Path,/,
    );
    expect(read('out/reports/summary.md')).toContain('In 2 measurements across 1 configurations');
    expect(await tune(['-f', file])).toBe(0);
    expect(read('out/journal.jsonl')).toBe(journal);
    expect(said.join('')).toContain('2 of them are in');
  });

  it('judges a journal again under other limits: what comes nearest, and by how much', async () => {
    expect(await tune(['-f', planFile()])).toBe(0);
    const journal = read('out/journal.jsonl');
    said.length = 0;
    const strict = planFile({ constraints: { throughput_per_s: { min: 1e9 } } });
    expect(await tune(['analyze', '-f', strict])).toBe(1);
    expect(said.join('')).toMatch(
      /none meets the constraints[\s\S]*Nearest: mlp_config_default .*Throughput .* < 1000000000/,
    );
    expect(read('out/journal.jsonl')).toBe(journal);
  });

  it('refuses a journal of another load, unless forced', async () => {
    expect(await tune(['-f', planFile()])).toBe(0);
    const other = planFile({ request: { prompt_tokens: 5, output_tokens: 2 } });
    expect(await tune(['-f', other])).toBe(2);
    expect(said.join('')).toMatch(/measured under other conditions: load was/);
    expect(await tune(['-f', other, '--force'])).toBe(0);
  });

  it('makes a page that asks nothing of any network', async () => {
    expect(await tune(['-f', planFile()])).toBe(0);
    const page = read('out/reports/report.html');
    // Not the page whole as an assertion's message: it holds ECharts.
    expect(page.includes(`content="default-src 'none'; script-src 'unsafe-inline'`)).toBe(true);
    const own = page.slice(0, page.indexOf('<script>'));
    expect(own).not.toMatch(/(?:src|href)="(?!data:)/);
    const data = /<script type="application\/json" id="data">(.*)<\/script>/.exec(page)![1]!;
    const { variants } = JSON.parse(data) as { variants: { points: unknown[] }[] };
    expect(variants[0]!.points).toHaveLength(2);
    expect(page.split('</script>').length - 1).toBe(3);
  });

  it('says what is wrong with a plan, and prints the schema of one', async () => {
    writeFileSync(inFolder('bad.yaml'), 'models: {m: {path: x}}\nlaod: 3\n');
    expect(await tune(['-f', inFolder('bad.yaml')])).toBe(2);
    expect(said.join('')).toMatch(/bad\.yaml:\n.*laod/);
    said.length = 0;
    expect(await tune(['--schema'])).toBe(0);
    expect(JSON.parse(said.join(''))).toMatchObject({ title: 'shardserve tune', type: 'object' });
  });
});

describe('benchmark', () => {
  function suiteFile(url: string): string {
    const suite = {
      suite: 'small',
      repeats: 3,
      defaults: {
        server: { url },
        request: { prompt_tokens: 4, output_tokens: 2 },
        load: { concurrency: 2, warm_up_seconds: 0, warm_up_requests: 1, requests: 10 },
      },
      cases: {
        streamed: { models: { mlp: {} } },
        whole: { models: { mlp: {} }, request: { stream: false } },
      },
      compare: { metrics: ['throughput_per_s'], alpha: 0.2 },
    };
    writeFileSync(inFolder('suite.json'), JSON.stringify(suite));
    return inFolder('suite.json');
  }
  const run = (...more: string[]) =>
    benchmark([suiteFile(server.url), '--output', inFolder('bench'), ...more]);
  /** A saved run whose throughputs are those of this one, times a factor. */
  function scaledBaseline(factor: number): string {
    const saved = JSON.parse(read('bench/results.json')) as {
      cases: Record<string, { throughput_per_s: number[] }>;
    };
    for (const one of Object.values(saved.cases)) {
      one.throughput_per_s = one.throughput_per_s.map((value) => value * factor);
    }
    writeFileSync(inFolder('baseline.json'), JSON.stringify(saved));
    return inFolder('baseline.json');
  }

  it('measures, saves, and ends with 0 beside a slower baseline, 1 beside a faster one', async () => {
    expect(await run()).toBe(0);
    expect(read('bench/report.md')).toContain('| streamed | 3 |');
    expect(read('bench/results.jsonl').trim().split('\n')).toHaveLength(6);
    expect(await run('--baseline', scaledBaseline(1e-3))).toBe(0);
    expect(said.join('')).toMatch(/streamed: Throughput .* better/);
    expect(await run('--baseline', scaledBaseline(1e3))).toBe(1);
    expect(said.join('')).toMatch(/whole: Throughput .*: worse/);
  });

  it('ends with 2 when a case or the baseline is not to be had', async () => {
    expect(await run('--baseline', inFolder('nothing.json'))).toBe(2);
    expect(
      await benchmark([suiteFile('http://127.0.0.1:9'), '--output', inFolder('bench'), '--repeats', '1']),
    ).toBe(2);
    expect(said.join('')).toMatch(/could not be measured: most requests failed: mlp: ECONNREFUSED/);
    writeFileSync(
      inFolder('baseline.json'),
      '{"benchmark": 1, "cases": {}, "conditions": {"host": "another"}}',
    );
    expect(await run('--baseline', inFolder('baseline.json'))).toBe(2);
    expect(said.join('')).toMatch(/measured under other conditions: host was another/);
  });
});
