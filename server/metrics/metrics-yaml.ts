/**
 * TorchServe's metrics.yaml: which metrics there are.
 *
 * In      the file: ts_metrics and model_metrics, each with counter, gauge and histogram
 * Out     names of the server's metrics; those of handlers with their kinds
 * Limits  MAX_FILE_BYTES, MAX_ALIASES
 * Errors  CONFIG_INVALID
 * Source  TorchServe's metrics configuration
 */
import { readFileSync, statSync } from 'node:fs';
import { parse } from 'yaml';
import { ServingError } from '../../proto/errors.js';
import type { DeclaredMetric } from './custom-metrics.js';
import type { MetricKind } from './metric-text.js';

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_ALIASES = 1000;
const KINDS: readonly MetricKind[] = ['counter', 'gauge', 'histogram'];

export interface DeclaredMetrics {
  /** null: all. */
  server: ReadonlySet<string> | null;
  models: ReadonlyMap<string, DeclaredMetric>;
}

/** TorchServe's own file, as far as it names metrics of handlers. */
const OWN: DeclaredMetrics = {
  server: null,
  models: new Map<string, DeclaredMetric>([
    ['HandlerTime', { kind: 'gauge' }],
    ['PredictionTime', { kind: 'gauge' }],
  ]),
};

/** @param file null: TorchServe's own. @throws ServingError CONFIG_INVALID */
export function declaredMetrics(file: string | null): DeclaredMetrics {
  if (file === null) return OWN;
  const refuse = (reason: string): never => {
    throw new ServingError('CONFIG_INVALID', `metrics_config: ${file} ${reason}`);
  };
  let given: unknown;
  try {
    const { size } = statSync(file);
    if (size > MAX_FILE_BYTES) refuse(`has ${size} bytes, at most ${MAX_FILE_BYTES} are read`);
    given = parse(readFileSync(file, 'utf8'), { schema: 'core', maxAliasCount: MAX_ALIASES });
  } catch (error) {
    if (error instanceof ServingError) throw error;
    refuse(`cannot be read: ${(error as Error).message.split('\n')[0]}`);
  }
  const { ts_metrics: server, model_metrics: models } = (given ?? {}) as Record<string, unknown>;
  return { server: new Set(namesOf(server, refuse).keys()), models: namesOf(models, refuse) };
}

function namesOf(section: unknown, refuse: (reason: string) => never): Map<string, DeclaredMetric> {
  const found = new Map<string, DeclaredMetric>();
  if (section === undefined || section === null) return found;
  if (typeof section !== 'object') refuse('has a section that is no mapping');
  for (const kind of KINDS) {
    const listed = (section as Record<string, unknown>)[kind] ?? [];
    if (!Array.isArray(listed)) refuse(`has ${kind} that is no list`);
    for (const one of listed as unknown[]) {
      const { name } = (one ?? {}) as { name?: unknown };
      if (typeof name !== 'string' || !/^\w{1,128}$/.test(name)) refuse(`has a ${kind} without a name`);
      found.set(name as string, { kind });
    }
  }
  return found;
}
