/** The metrics and log files of the real server, with the embedded model on two ranks. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parsePrometheus, sampleValue } from '../support/prometheus-text.js';
import { ServerProcess } from '../support/server-process.js';

const REQUESTS = 4;
const NEW_TOKENS = 12;
const MODEL = { model: 'embedded', version: '' };

let server: ServerProcess;
let logs: string;
let answers: { status: number; requestId: string | null }[] = [];

const scrape = async (target = '/metrics') => {
  const response = await fetch(`${server.url}${target}`);
  return parsePrometheus(await response.text());
};

beforeAll(async () => {
  logs = mkdtempSync(path.join(tmpdir(), 'shardserve-e2e-log-'));
  server = await ServerProcess.start({
    SERVING_LOG_FOLDER: logs,
    SERVING_LOG_LEVEL: 'info',
    SERVING_PROMETHEUS: 'true',
    SERVING_LOG_REQUEST_METRIC: 'true',
    SERVING_METRICS_AGGREGATION: '2',
    OPTION_TENSOR_PARALLEL_DEGREE: '2',
  });
  answers = await Promise.all(
    Array.from({ length: REQUESTS }, async () => {
      const response = await server.post('/predictions/embedded', {
        inputs: 'Once upon a time',
        parameters: { max_new_tokens: NEW_TOKENS, min_new_tokens: NEW_TOKENS, do_sample: false },
      });
      await response.text();
      return { status: response.status, requestId: response.headers.get('x-request-id') };
    }),
  );
});

afterAll(async () => {
  await server?.stop();
  rmSync(logs, { recursive: true, force: true });
});

it('requests, tokens and times add up after so many requests', async () => {
  expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: REQUESTS }, () => 200));
  const families = await scrape();
  const value = (name: string, more: Record<string, string | number> = {}) =>
    sampleValue(families, `shardserve_${name}`, { ...MODEL, ...more });
  const tokens = REQUESTS * NEW_TOKENS;
  expect(value('generated_tokens_total')).toBe(tokens);
  expect(value('requests_total', { outcome: 'finished', reason: 'length' })).toBe(REQUESTS);
  expect(value('time_to_first_token_seconds_count')).toBe(REQUESTS);
  expect(value('inter_token_latency_seconds_count')).toBe(tokens - REQUESTS);
  expect(value('queue_time_seconds_count')).toBe(REQUESTS);
  expect(value('request_duration_seconds_count')).toBe(REQUESTS);
  const promptTokens = value('prompt_tokens_total')!;
  expect(promptTokens).toBeGreaterThan(0);
  expect(promptTokens % REQUESTS).toBe(0);
  // A request takes at least as long as its first token and the gaps after it.
  expect(value('request_duration_seconds_sum')).toBeGreaterThan(value('time_to_first_token_seconds_sum')!);
  expect(value('batch_size_count')).toBeGreaterThanOrEqual(NEW_TOKENS);
  expect(value('step_duration_seconds_count', { part: 'collective' })).toBe(value('batch_size_count'));
  expect(value('jobs_waiting')).toBe(0);
  expect(value('sequences_running')).toBe(0);
  expect(value('kv_tokens_used')).toBe(0);
  expect(value('kv_tokens_capacity')).toBeGreaterThan(0);
  expect(value('slots')).toBeGreaterThan(0);
  expect(value('model_ready')).toBe(1);
  expect(value('worker_groups', { state: 'running' })).toBe(1);
});

it('both ranks tell of their steps and all-reduces', async () => {
  const families = await scrape();
  for (const rank of [0, 1]) {
    const value = (name: string, more = {}) =>
      sampleValue(families, `shardserve_rank_${name}`, { ...MODEL, group: 0, rank, ...more });
    expect(value('steps_total')).toBeGreaterThanOrEqual(NEW_TOKENS);
    expect(value('all_reduces_total')).toBeGreaterThan(value('steps_total')!);
    expect(value('step_seconds_total', { part: 'collective' })).toBeGreaterThan(0);
    expect(value('weights_bytes')).toBeGreaterThan(0);
  }
});

it('the process itself and the names of DJLServing are there', async () => {
  const families = await scrape('/server/metrics');
  expect(families.has('process_cpu_seconds_total')).toBe(true);
  expect([...families.get('StartupLatency')!.samples.keys()][0]).toMatch(/^StartupLatency\{Host="[^"]+"\}$/);
  expect(sampleValue(families, 'QueueTime_count', { Model: 'embedded' })).toBe(REQUESTS);
});

it('the log says nothing twice: one line of access a request, with its id, and no deprecation', async () => {
  const ids = answers.map(({ requestId }) => requestId);
  const logged = server.lines.filter(({ msg, uri }) => msg === 'access' && uri === '/predictions/embedded');
  expect(logged.map(({ reqId }) => reqId).sort()).toEqual([...ids].sort());
  expect(server.stderr).not.toContain('DeprecationWarning');
  expect(server.stderr).not.toContain('FSTDEP');
  const loading = server.lines.filter(({ msg }) => msg.startsWith('loading weights'));
  expect(loading.length).toBeLessThan(5);
});

it('a worker that is killed shows as a restart of its group', async () => {
  const from = server.lines.length;
  process.kill(server.workerPids[0]!, 'SIGKILL');
  for (const rank of [0, 1]) {
    await server.line((line) => line.msg === 'shard worker ready' && line.rank === rank, from);
  }
  expect(sampleValue(await scrape(), 'shardserve_worker_restarts_total', MODEL)).toBe(1);
});

it('a model that is unregistered leaves no series', async () => {
  expect((await fetch(`${server.url}/models/embedded`, { method: 'DELETE' })).status).toBe(200);
  const text = await (await fetch(`${server.url}/metrics`)).text();
  expect(text).toContain('process_cpu_seconds_total');
  expect(text).not.toContain('embedded');
});

it('after the end the log folder holds what happened', async () => {
  expect(await server.stop()).toBe(0);
  const read = (name: string) => readFileSync(path.join(logs, name), 'utf8');
  const access = read('access.log').split('\n');
  expect(
    access.filter((line) => /"POST \/predictions\/embedded HTTP\/1\.1" 200 \d+$/.test(line)),
  ).toHaveLength(REQUESTS);
  expect(read('serving.log')).toContain('model embedded is ready');
  expect(read('server_metric.log')).toMatch(/ StartupLatency\.Microseconds:\d+\|#Host:/);
  expect(read('model_metric.log').match(/ OutputTokens_p50\.Count\/Item:12\|#Model:embedded/g)).toHaveLength(
    REQUESTS / 2,
  );
});
