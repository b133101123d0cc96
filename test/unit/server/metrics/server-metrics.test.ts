/** What a scrape shows after what the server was told, and what it no longer shows. */
import { describe, expect, it } from 'vitest';
import { ServerMetrics, type ServerMetricsOptions } from '../../../../server/metrics/server-metrics.js';
import { groupReading, poolReading } from '../../../fixtures/pool-reading.js';
import { parsePrometheus, sampleValue } from '../../../support/prometheus-text.js';

const make = (options: Partial<ServerMetricsOptions> = {}): ServerMetrics =>
  new ServerMetrics({
    prometheus: true,
    version: '1.2.3',
    processMetrics: false,
    lines: null,
    host: 'here',
    ...options,
  });

const scrape = async (metrics: ServerMetrics, ...names: string[]) =>
  parsePrometheus(await metrics.text(new Set(names)));

const TOY = { name: 'toy', version: null };
const toyLabels = { model: 'toy', version: '' };

describe('metrics of a model', () => {
  it('add up what its pool tells', async () => {
    const metrics = make();
    const toy = metrics.observe(TOY, () => poolReading());
    toy.jobStarted(30, 12);
    toy.firstToken(45);
    toy.prefixLookedUp(12, 9);
    toy.nextToken(8);
    toy.nextToken(9);
    toy.stepDone(2, 4000, 300, 200);
    toy.jobEnded({ reason: 'length', durationMs: 62, newTokens: 3 });
    const families = await scrape(metrics);
    const value = (name: string, more: Record<string, string | number> = {}) =>
      sampleValue(families, `shardserve_${name}`, { ...toyLabels, ...more });

    expect(value('prompt_tokens_total')).toBe(12);
    expect(value('prefix_cache_queried_tokens_total')).toBe(12);
    expect(value('prefix_cache_hit_tokens_total')).toBe(9);
    expect(value('generated_tokens_total')).toBe(3);
    expect(value('time_to_first_token_seconds_sum')).toBeCloseTo(0.045);
    expect(value('inter_token_latency_seconds_count')).toBe(2);
    expect(value('inter_token_latency_seconds_bucket', { le: 0.005 })).toBe(0);
    expect(value('inter_token_latency_seconds_bucket', { le: 0.01 })).toBe(2);
    expect(value('inter_token_latency_seconds_bucket', { le: '+Inf' })).toBe(2);
    expect(value('queue_time_seconds_sum')).toBeCloseTo(0.03);
    expect(value('request_duration_seconds_sum')).toBeCloseTo(0.062);
    expect(value('batch_size_sum')).toBe(2);
    expect(value('step_duration_seconds_sum', { part: 'compute' })).toBeCloseTo(0.004);
    expect(value('step_duration_seconds_sum', { part: 'collective' })).toBeCloseTo(0.0003);
    expect(value('step_duration_seconds_sum', { part: 'choose' })).toBeCloseTo(0.0002);
    expect(value('requests_total', { outcome: 'finished', reason: 'length' })).toBe(1);
  });

  it('part the time of its HTTP requests, of the version that answered', async () => {
    const metrics = make();
    for (const version of ['1', '2']) metrics.observe({ name: 'toy', version }, () => poolReading());
    const times = {
      model: 'toy',
      version: '2',
      totalMs: 400,
      containerMs: 300,
      modelMs: 200,
      overheadMs: 100,
    };
    metrics.responseSent(200, times);
    // Gone meanwhile.
    metrics.responseSent(200, { ...times, model: 'other' });
    const families = await scrape(metrics);
    const sum = (name: string, version: string) =>
      sampleValue(families, `shardserve_http_${name}_seconds_sum`, { model: 'toy', version });
    const parts = ['request', 'container', 'model', 'overhead'];
    expect(parts.map((name) => sum(name, '2'))).toEqual([0.4, 0.3, 0.2, 0.1]);
    expect(parts.map((name) => sum(name, '1'))).toEqual([0, 0, 0, 0]);
  });

  it('tell how requests ended, in words of closed sets', async () => {
    const metrics = make();
    const toy = metrics.observe(TOY, () => poolReading());
    for (const reason of ['end-id', 'CANCELLED', 'REQUEST_TIMEOUT', 'WORKER_FAILED'] as const) {
      toy.jobEnded({ reason, durationMs: 1, newTokens: 0 });
    }
    toy.refused('QUEUE_FULL');
    toy.refused('QUEUE_FULL');
    const families = await scrape(metrics, 'shardserve_requests');
    expect(
      [...families.get('shardserve_requests_total')!.samples.entries()].map(([key, count]) => [
        /outcome="(\w+)",reason="(\w+)"/.exec(key)?.slice(1).join(' '),
        count,
      ]),
    ).toEqual([
      ['finished end_id', 1],
      ['cancelled cancelled', 1],
      ['timeout request_timeout', 1],
      ['failed worker_failed', 1],
      ['refused queue_full', 2],
    ]);
  });

  it('show the pool at this moment', async () => {
    let waiting = 5;
    const groups = [groupReading(), groupReading({ state: 'restarting', inspect: null, slots: 0 })];
    const metrics = make();
    const toy = metrics.observe(TOY, () => poolReading({ jobsWaiting: waiting, groups }));
    toy.groupRestarted();
    waiting = 6;
    const families = await scrape(metrics);
    const value = (name: string, more = {}) =>
      sampleValue(families, `shardserve_${name}`, { ...toyLabels, ...more });
    expect(value('jobs_waiting')).toBe(6);
    expect(value('sequences_running')).toBe(6);
    expect(value('slots')).toBe(8);
    expect(value('kv_tokens_used')).toBe(384);
    expect(value('kv_tokens_capacity')).toBe(8192);
    expect(value('worker_groups', { state: 'running' })).toBe(1);
    expect(value('worker_groups', { state: 'restarting' })).toBe(1);
    expect(value('worker_groups', { state: 'failed' })).toBe(0);
    expect(value('worker_restarts_total')).toBe(1);
    expect(value('model_ready')).toBe(1);
  });

  it('show every rank by itself', async () => {
    const metrics = make();
    metrics.observe(TOY, () => poolReading());
    const families = await scrape(metrics);
    const seconds = (rank: number, part: string) =>
      sampleValue(families, 'shardserve_rank_step_seconds_total', { ...toyLabels, group: 0, rank, part });
    expect([seconds(0, 'compute'), seconds(1, 'compute')]).toEqual([2, 3]);
    expect(seconds(1, 'collective')).toBe(0.5);
    expect(
      sampleValue(families, 'shardserve_rank_all_reduces_total', { ...toyLabels, group: 0, rank: 1 }),
    ).toBe(40);
  });

  it('are gone when it is closed, with every series of it', async () => {
    const metrics = make();
    const toy = metrics.observe(TOY, () => poolReading());
    metrics.observe({ name: 'other', version: 'v1' }, () => poolReading());
    toy.jobStarted(1, 1);
    toy.jobEnded({ reason: 'end-id', durationMs: 1, newTokens: 1 });
    expect(await metrics.text()).toContain('model="toy"');
    toy.closed();
    toy.jobEnded({ reason: 'CANCELLED', durationMs: 1, newTokens: 0 });
    const text = await metrics.text();
    expect(text).not.toContain('toy');
    expect(text).toContain('model="other",version="v1"');
    expect(text).toContain('Model="other:v1"');
  });

  it('are those of the newer pool while an older one of its name is closing', async () => {
    const metrics = make();
    const old = metrics.observe(TOY, () => poolReading());
    old.nextToken(1);
    const next = metrics.observe(TOY, () => poolReading());
    const tokens = async () =>
      sampleValue(await scrape(metrics), 'shardserve_generated_tokens_total', toyLabels);
    expect(await tokens()).toBe(0);
    old.closed();
    next.nextToken(1);
    expect(await tokens()).toBe(1);
  });

  it('write a label that needs it with escapes', async () => {
    const metrics = make();
    metrics.observe({ name: 'a"b\\c\nd', version: null }, () => poolReading());
    const families = await scrape(metrics, 'shardserve_jobs_waiting');
    const keys = [...families.get('shardserve_jobs_waiting')!.samples.keys()];
    expect(keys).toEqual(['shardserve_jobs_waiting{model="a\\"b\\\\c\\nd",version=""}']);
  });
});

describe('metrics under the names of DJLServing', () => {
  it('have its types, labels and units', async () => {
    const metrics = make();
    const toy = metrics.observe(TOY, () => poolReading());
    metrics.started(1500);
    for (const status of [200, 200, 404, 503]) metrics.responseSent(status);
    toy.loaded(2000, 500);
    toy.jobStarted(10, 1);
    toy.jobEnded({ reason: 'REQUEST_TIMEOUT', durationMs: 20, newTokens: 0 });
    toy.refused('QUEUE_FULL');
    toy.refused('OUT_OF_MEMORY');
    toy.refused('INTERNAL');
    toy.loadingFailed();
    const families = await scrape(metrics);
    expect(families.get('StartupLatency')).toMatchObject({
      type: 'gauge',
      help: ': prometheus gauge metric, unit: Microseconds',
    });
    const value = (name: string, labels: Record<string, string>) => sampleValue(families, name, labels);
    expect(value('StartupLatency', { Host: 'here' })).toBe(1_500_000);
    expect(value('DJLServingStart_total', { Version: '1.2.3' })).toBe(1);
    expect(value('Response_2XX_total', { Host: 'here' })).toBe(2);
    expect(value('Response_4XX_total', { Host: 'here' })).toBe(1);
    expect(value('Response_5XX_total', { Host: 'here' })).toBe(1);
    expect(value('WlmError_total', { Host: 'here' })).toBe(2);
    expect(value('ServerError_total', { Host: 'here' })).toBe(1);
    expect(value('ModelLoadingError_total', { Model: 'toy' })).toBe(1);
    expect(value('LoadModel', { Model: 'toy' })).toBe(2_000_000);
    expect(value('DownloadModel', { Model: 'toy' })).toBe(500_000);
    expect(value('RegisterWorkflow', { Model: 'toy' })).toBe(2_500_000);
    expect(families.get('QueueTime')?.type).toBe('histogram');
    expect(value('QueueTime_sum', { Model: 'toy' })).toBe(10_000);
    expect(value('RequestLatency_sum', { Model: 'toy' })).toBe(20_000);
    expect(value('RollingBatchTimeout_total', { Model: 'toy' })).toBe(1);
  });

  it('are left out unless they are asked for', async () => {
    const text = await make({ prometheus: false }).text();
    expect(text).not.toContain('StartupLatency');
    expect(text).toContain('# TYPE shardserve_http_responses_total counter');
  });

  it('forget the oldest of more than a hundred models that could not be loaded', async () => {
    const metrics = make();
    for (let index = 0; index < 105; index++) {
      const model = metrics.observe({ name: `m${index}`, version: null }, () => poolReading());
      model.loadingFailed();
      model.closed();
    }
    const { samples } = (await scrape(metrics)).get('ModelLoadingError_total')!;
    expect(samples.size).toBe(100);
    expect(samples.has('ModelLoadingError_total{Model="m4"}')).toBe(false);
    expect(samples.has('ModelLoadingError_total{Model="m104"}')).toBe(true);
  });

  it('are written as lines where there are logs', async () => {
    const lines = { server: [] as string[], model: [] as string[] };
    const metrics = make({
      lines: { server: (line) => lines.server.push(line), model: (line) => lines.model.push(line) },
    });
    const toy = metrics.observe({ ...TOY, requestMetricWindow: 1 }, () => poolReading());
    metrics.responseSent(200);
    toy.jobStarted(0.5, 1);
    toy.jobEnded({ reason: 'end-id', durationMs: 10, newTokens: 10 });
    expect(lines.server).toEqual([
      'DJLServingStart.Count:1|#Version:1.2.3',
      'Response_2XX.Count:1|#Host:here',
    ]);
    expect(lines.model).toContain('QueueTime.Microseconds:500|#Model:toy');
    expect(lines.model).toContain('TokenLatency_p90.Microseconds:1000|#Model:toy');
  });
});

describe('a scrape of some names', () => {
  it('takes a counter with or without _total, a histogram also by a sample, and passes over what it does not know', async () => {
    const metrics = make();
    metrics.started(1);
    const names = async (...asked: string[]) => [...(await scrape(metrics, ...asked)).keys()];
    expect(await names('StartupLatency')).toEqual(['StartupLatency']);
    expect(await names('Response_2XX', 'Response_4XX_total')).toEqual([
      'Response_2XX_total',
      'Response_4XX_total',
    ]);
    expect(await names('shardserve_batch_size_bucket')).toEqual(['shardserve_batch_size']);
    expect(await metrics.text(new Set(['nothing', '__proto__']))).toBe('');
  });
});
