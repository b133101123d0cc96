/**
 * DJLServing's metrics under its own names, units and labels, for its dashboards.
 *
 * Type    unit Count: a counter, exposed with `_total`; QueueTime and RequestLatency: histograms; else a gauge
 * Source  DJLServing 0.36. README.md of this folder says which of its names never occur here, and why
 */
import type { MetricRow, MetricSample } from './metric-rows.js';
import { modelIdOf } from './model-id.js';
import type { ModelSnapshot, ServerCounts, Snapshot } from './snapshot.js';

type Kind = MetricRow<Snapshot>['kind'];
const help = (kind: Kind, unit: string): string => `: prometheus ${kind} metric, unit: ${unit}`;

function hostCounter(
  host: string,
  name: string,
  value: (server: ServerCounts) => number,
): MetricRow<Snapshot> {
  return {
    kind: 'counter',
    name: `${name}_total`,
    help: help('counter', 'Count'),
    labels: ['Host'],
    read: ({ server }) => [{ labels: { Host: host }, value: value(server) }],
  };
}

function perModel<T>(read: (model: ModelSnapshot) => T | null) {
  return ({ models }: Snapshot): MetricSample<T>[] =>
    models.flatMap((model) => {
      const value = read(model);
      return value === null ? [] : [{ labels: { Model: modelIdOf(model.metrics) }, value }];
    });
}

/** Microseconds, once the model is loaded. */
const modelGauge = (
  name: string,
  valueUs: (metrics: ModelSnapshot['metrics']) => number,
): MetricRow<Snapshot> => ({
  kind: 'gauge',
  name,
  help: help('gauge', 'Microseconds'),
  labels: ['Model'],
  read: perModel(({ metrics }) => (metrics.loadUs > 0 ? valueUs(metrics) : null)),
});

const responses = (digit: string) => (server: ServerCounts) => server.responses.get(digit) ?? 0;

/** @param version of this server: what DJLServingStart carries */
export const djlRows = (version: string, host: string): readonly MetricRow<Snapshot>[] => [
  {
    kind: 'counter',
    name: 'DJLServingStart_total',
    help: help('counter', 'Count'),
    labels: ['Version'],
    read: () => [{ labels: { Version: version }, value: 1 }],
  },
  {
    kind: 'gauge',
    name: 'StartupLatency',
    help: help('gauge', 'Microseconds'),
    labels: ['Host'],
    read: ({ server }) => (server.startupUs > 0 ? [{ labels: { Host: host }, value: server.startupUs }] : []),
  },
  hostCounter(host, 'Response_2XX', responses('2')),
  hostCounter(host, 'Response_4XX', responses('4')),
  hostCounter(host, 'Response_5XX', responses('5')),
  hostCounter(host, 'ServerError', (server) => server.serverErrors),
  hostCounter(host, 'WlmError', (server) => server.wlmErrors),
  {
    kind: 'counter',
    name: 'ModelLoadingError_total',
    help: help('counter', 'Count'),
    labels: ['Model'],
    read: ({ server }) =>
      [...server.loadingErrors].map(([model, value]) => ({ labels: { Model: model }, value })),
  },
  // There a workflow's registration, until it serves; and its download, which of a folder that is there is next to nothing.
  modelGauge('RegisterWorkflow', ({ fetchUs, loadUs }) => fetchUs + loadUs),
  modelGauge('DownloadModel', ({ fetchUs }) => fetchUs),
  modelGauge('LoadModel', ({ loadUs }) => loadUs),
  {
    kind: 'histogram',
    name: 'QueueTime',
    help: help('histogram', 'Microseconds'),
    labels: ['Model'],
    read: perModel(({ metrics }) => metrics.queueUs),
  },
  {
    kind: 'histogram',
    name: 'RequestLatency',
    help: help('histogram', 'Microseconds'),
    labels: ['Model'],
    read: perModel(({ metrics }) => metrics.requestUs),
  },
  {
    kind: 'counter',
    name: 'RollingBatchTimeout_total',
    help: help('counter', 'Count'),
    labels: ['Model'],
    read: perModel(({ metrics }) => metrics.endedWith('REQUEST_TIMEOUT')),
  },
];
