/** `shardserve tune` as a user runs it: real servers, a configuration that cannot be served, Ctrl-C and the same command again. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { makeBert } from '../../bench/onnx/make-bert.js';
import { readJournal } from '../../tuner/journal/journal.js';
import { main as tuneHere } from '../../tuner/tune.js';
import { repositoryRoot } from '../support/repository-root.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'tune-e2e-'));
  writeFileSync(
    path.join(folder, 'plan.yaml'),
    `models:
  embedded:
    path: ${path.join(repositoryRoot, 'models', 'embedded')}
    properties: {option.threads_per_rank: 1, option.tensor_parallel_degree: 1}
    # The second is refused by the server.
    space: {option.max_rolling_batch_size: [4, 0]}
request: {prompt_tokens: 8, output_tokens: 4}
load: {concurrency: 2, warm_up_seconds: 0.1, warm_up_requests: 1, window_seconds: 0.2, window_requests: 2, max_windows: 3, within: 100}
search: {mode: grid}
compare: {rounds: 0}
profile: true
pictures: false
output: out
`,
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

/** @param onLine may act on what it says */
function tune(
  onLine: (line: string, pid: number) => void = () => {},
  args: readonly string[] = ['-f', path.join(folder, 'plan.yaml')],
): Promise<{ code: number | null; said: string }> {
  const child = spawn(process.execPath, ['server/shardserve.mjs', 'tune', ...args], {
    cwd: repositoryRoot,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      for (const line of text.split('\n')) onLine(line, child.pid!);
    });
  }
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, said })));
}

const journal = () => readJournal(path.join(folder, 'out', 'journal.jsonl'))!.measurements;

describe('shardserve tune', () => {
  it('ends after the running measurement at Ctrl-C, with its server gone, and goes on at the same command', async () => {
    let stopped = false;
    const first = await tune((line, pid) => {
      if (stopped || !line.startsWith('[1/')) return;
      stopped = true;
      process.kill(pid, 'SIGINT');
    });
    expect(first.said).toContain('At most 3 measurements: 3 of default and search (grid), 0 to repeat');
    expect(first.code).toBe(130);
    expect(journal()).toHaveLength(1);
    const [base] = journal();
    expect(base).toMatchObject({ settings: {}, outcome: 'measured' });
    const { figures } = base!.models.embedded!;
    expect(figures.memory_bytes).toBeGreaterThan(20e6);
    expect(figures.server_cores).toBeGreaterThan(0);
    expect(figures.tokens_out_per_s! / figures.throughput_per_s!).toBeCloseTo(4, 6);
    expect(figures.first_token_p50_ms).toBeGreaterThan(0);
    expect(base!.profile![0]).toMatchObject({ model: 'embedded', rank: '0' });

    const second = await tune();
    expect(second.said).toContain('1 of them are in');
    expect(second.code).toBe(0);
    const kept = journal();
    expect(kept).toHaveLength(3);
    expect(kept[0]).toEqual(base);
    const refused = kept.find(({ settings }) => settings['embedded.option.max_rolling_batch_size'] === 0)!;
    expect(refused.outcome).toBe('infeasible');
    expect(refused.reason).toMatch(/^\[CONFIG_INVALID\][\s\S]*max_rolling_batch_size/);
    const summary = readFileSync(path.join(folder, 'out', 'reports', 'summary.md'), 'utf8');
    expect(summary).toContain('In 3 measurements across 3 configurations');
    expect(summary).toContain('1 of the configurations could not be served');
  }, 240_000);
});

it("the articles' three files: a small BERT swept, then judged under limits, of one journal", async () => {
  const models = path.join(folder, 'models');
  const sizes = { layers: 1, hidden: 32, heads: 2, vocabulary: 100, positions: 16 };
  makeBert(path.join(models, 'bert-large'), sizes);
  /** As it is in the examples, with small numbers. */
  const file = (name: string, numbers: Readonly<Record<string, string | number>>): string => {
    const example = path.join(repositoryRoot, 'tuner/examples/bert-cpu', `${name}.yaml`);
    const text = Object.entries(numbers).reduce(
      (all, [key, value]) => {
        const line = new RegExp(`(${key}:) .*`);
        expect(all).toMatch(line);
        return all.replace(line, `$1 ${value}`);
      },
      readFileSync(example, 'utf8'),
    );
    const at = path.join(folder, `${name}.yaml`);
    writeFileSync(at, text.replaceAll('tune-bert', path.join(folder, 'bert')));
    return at;
  };
  const sweep = file('sweep', {
    'model-repository': models,
    'max-model-batch-size': 1,
    concurrency: '[2]',
    shape: '[input_ids:16, attention_mask:16, token_type_ids:16]',
    'measurement-interval': 50,
  });
  const swept = await tune(() => {}, ['profile', '-f', sweep, '--rounds', '0', '--no-pictures']);
  expect([swept.code, swept.said]).toEqual([0, expect.stringContaining('In 3 measurements')]);
  const kept = readFileSync(path.join(folder, 'bert/checkpoints/journal.jsonl'), 'utf8');
  const files = {
    loose: file('latency_constraint', { max: 1e6 }),
    tight: file('multiple_constraint', { min: 1e6 }),
  };
  const said: string[] = [];
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((text) => said.push(String(text)) > 0);
  try {
    expect(await tuneHere(['analyze', '-f', files.loose, '--no-pictures'])).toBe(0);
    expect(await tuneHere(['analyze', '-f', files.tight, '--no-pictures'])).toBe(1);
  } finally {
    write.mockRestore();
  }
  expect(said.join('')).toMatch(/none meets the constraints[\s\S]*Nearest: .*Throughput/);
  expect(readFileSync(path.join(folder, 'bert/checkpoints/journal.jsonl'), 'utf8')).toBe(kept);
  for (const name of ['sweep', 'latency', 'multiple'])
    expect(readFileSync(path.join(folder, 'bert', name, 'reports/summary.md'), 'utf8')).toContain(
      'bert-large',
    );
}, 120_000);
