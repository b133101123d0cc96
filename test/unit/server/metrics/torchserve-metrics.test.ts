/** TorchServe's metrics: lines in its form, metrics of handlers, metrics.yaml. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Registry } from 'prom-client';
import { afterAll, describe, expect, it } from 'vitest';
import { CustomMetrics } from '../../../../server/metrics/custom-metrics.js';
import { metricOf, metricText } from '../../../../server/metrics/metric-text.js';
import { declaredMetrics } from '../../../../server/metrics/metrics-yaml.js';
import { TorchServeMetrics } from '../../../../server/metrics/torchserve-metrics.js';

const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-metrics-yaml-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a line of a metric', () => {
  it('is written in the form that TorchServe documents, and read again', () => {
    const told = { name: 'Rows', unit: 'Count', value: 2, dimensions: { ModelName: 'm', Level: 'Model' } };
    const line = metricText(told, { host: 'h', atMs: 1_542_157_988_500 });
    expect(line).toBe('Rows.Count:2.0|#ModelName:m,Level:Model|#hostname:h,timestamp:1542157988');
    expect(metricOf('Rows.Count:2|#ModelName:m,Level:Model|type:gauge')).toEqual({ ...told, kind: 'gauge' });
    const forged = { ...told, dimensions: { ModelName: 'm,Level:x|#\nRows' } };
    expect(metricText(forged, { host: 'h', atMs: 0 })).toContain('#ModelName:m_Level:x___Rows|#');
  });

  it.each(['Rows', 'Rows.Count:x|#', 'Rows.Count:1|#no pair', 'Rows.Count:1|#__a:b', 'R ws.Count:1|#a:b'])(
    'says nothing: %s',
    (line) => expect(metricOf(line)).toBe(null),
  );
});

describe('metrics of handlers for Prometheus', () => {
  it('have their kind and dimensions, and go with their model', async () => {
    const registry = new Registry();
    const dropped: string[] = [];
    const custom = new CustomMetrics(registry, null, (sentence) => dropped.push(sentence));
    for (const model of ['a', 'b'])
      custom.told(model, `Rows.Count:2|#ModelName:${model},Level:Model|type:counter`);
    custom.told('a', 'Rows.Count:3|#ModelName:a,Level:Model|type:counter');
    custom.told('a', 'Rows.Count:3|#Other:a|type:counter');
    custom.told('a', 'Load.Percent:7|#ModelName:a,Level:Model|type:gauge');
    custom.told('a', 'Took.ms:7|#ModelName:a,Level:Model|type:histogram');
    const text = await registry.metrics();
    expect(text).toContain('Rows{ModelName="a",Level="Model"} 5\nRows{ModelName="b",Level="Model"} 2\n');
    expect(text).toContain('Load{ModelName="a",Level="Model"} 7\n');
    expect(text).toContain('Took_count{ModelName="a",Level="Model"} 1\n');
    custom.forget('a');
    expect(await registry.metrics()).not.toContain('"a"');
    for (let index = 0; index <= 1000; index++) custom.told('b', `Many.Count:1|#Id:${index}|type:counter`);
    expect([dropped.length, registry.getSingleMetric('Many')]).toEqual([1, undefined]);
  });

  it('are those of metrics.yaml, of its kind', async () => {
    const registry = new Registry();
    const custom = new CustomMetrics(registry, new Map([['Rows', { kind: 'gauge' }]]), () => {});
    custom.told('a', 'Rows.Count:2|#Level:Model|type:counter');
    custom.told('a', 'Else.Count:2|#Level:Model|type:counter');
    const text = await registry.metrics();
    expect(text).toContain('# TYPE Rows gauge');
    expect(text).not.toContain('Else');
  });
});

describe('metrics.yaml', () => {
  it('names metrics of the server and of handlers; a wrong one is refused by its path', () => {
    const file = path.join(folder, 'metrics.yaml');
    writeFileSync(file, 'ts_metrics: {counter: [{name: A}]}\nmodel_metrics: {histogram: [{name: B}]}\n');
    const { models, server } = declaredMetrics(file);
    expect([[...server!], [...models]]).toEqual([['A'], [['B', { kind: 'histogram' }]]]);
    writeFileSync(file, 'ts_metrics: {counter: [{unit: A}]}\n');
    expect(() => declaredMetrics(file)).toThrow(`metrics_config: ${file} has a counter without a name`);
    expect(() => declaredMetrics(path.join(folder, 'absent'))).toThrow(/cannot be read: ENOENT/);
  });
});

describe("TorchServe's own metrics", () => {
  it('are lines of responses, jobs and the machine in log mode', () => {
    const lines: string[] = [];
    const metrics = new TorchServeMetrics({
      ...{ host: 'h', exported: 'none', names: null, systemIntervalMs: 1_000_000, firstWorker: 9000 },
      lines: { server: (line) => lines.push(line), model: (line) => lines.push(`model ${line}`) },
      versionOf: (_name, version) => (version === '1.0' ? 'default' : version),
      nowMs: () => 5000,
    });
    metrics.responseSent(404);
    metrics.jobStarted('m', '1.0', 2);
    metrics.jobEnded('m', '2.0', 1.5);
    metrics.custom('Rows.Count:2|#ModelName:m,Level:Model|type:counter');
    const end = '|#hostname:h,timestamp:5';
    expect(lines).toEqual([
      `Requests4XX.Count:1.0|#Level:Host${end}`,
      `QueueTime.Milliseconds:2.0|#Level:Host${end}`,
      `ts_queue_latency_microseconds.Microseconds:2000.0|#model_name:m,model_version:default${end}`,
      `ts_inference_requests_total.Count:1.0|#model_name:m,model_version:2.0${end}`,
      `ts_inference_latency_microseconds.Microseconds:1500.0|#model_name:m,model_version:2.0${end}`,
      `model Rows.Count:2.0|#ModelName:m,Level:Model${end}`,
    ]);
    expect(metrics.rows).toEqual([]);
    metrics.start();
    metrics.stop();
    const machine = lines.slice(6).map((line) => line.split('.')[0]);
    expect(machine).toEqual([
      ...['CPUUtilization', 'MemoryUsed', 'MemoryAvailable', 'MemoryUtilization'],
      ...['DiskUsage', 'DiskAvailable', 'DiskUtilization'],
    ]);
  });
});
