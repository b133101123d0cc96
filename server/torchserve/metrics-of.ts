/**
 * TorchServe's metrics as its configuration asks for them.
 *
 * In      metrics_mode, metrics_config, …; where lines go; which version is a model's default one
 * Out     TorchServe's metrics; which metrics of handlers Prometheus sees
 * Errors  CONFIG_INVALID: metrics_config
 */
import { hostname } from 'node:os';
import type { TorchServeConfig } from '../config/torchserve/torchserve-config.js';
import type { DeclaredMetric } from '../metrics/custom-metrics.js';
import { declaredMetrics } from '../metrics/metrics-yaml.js';
import { TorchServeMetrics } from '../metrics/torchserve-metrics.js';

export interface TorchServeMetricsParts {
  metrics: TorchServeMetrics;
  /** null: all. */
  declared: ReadonlyMap<string, DeclaredMetric> | null;
}

/** @throws ServingError CONFIG_INVALID */
export function torchServeMetrics(
  config: TorchServeConfig,
  files: { serverMetric(line: string): void; modelMetric(line: string): void } | null,
  isDefault: (name: string, version: string) => boolean,
): TorchServeMetricsParts {
  const { metricsMode } = config;
  const { models, server } = declaredMetrics(config.metricsConfig);
  const inPrometheus = config.metricsAutoDetect ? null : models;
  const metrics = new TorchServeMetrics({
    host: hostname(),
    // Log mode: lines; the other two: Prometheus.
    lines: files && metricsMode === 'log' ? { server: files.serverMetric, model: files.modelMetric } : null,
    exported: metricsMode === 'prometheus' ? 'all' : metricsMode === 'legacy' ? 'legacy' : 'none',
    names: server,
    versionOf: (name, version) => (isDefault(name, version) ? 'default' : version),
    systemIntervalMs: config.disableSystemMetrics ? 0 : config.metricIntervalSeconds * 1000,
    firstWorker: config.firstWorkerPort,
  });
  return { metrics, declared: metricsMode === 'prometheus' ? inPrometheus : new Map() };
}
