/**
 * What a model's own serving.properties may say, by where the model comes from.
 *
 * In      the layer of that file, the model's folder, its trust: `operator`: named at start and on this host's disk; `registered`:
 *         a folder that a management request names; `fetched`: downloaded or unpacked
 * Out     the entries that count
 * Errors  Problems: a file outside the model's folder, also by a link (registered, fetched); a checkpoint elsewhere on this host
 *         (fetched). Keys that take this machine's resources are left out with a warning (fetched), and those that the operator has
 *         set for all models (registered): they are the operator's
 */
import { realpathSync } from 'node:fs';
import path from 'node:path';
import type { Entry, Layer } from './layers.js';
import type { Problems } from './problems.js';

export type ModelTrust = 'operator' | 'registered' | 'fetched';

const RESOURCE_KEYS = [
  'required_memory_mb',
  'reserved_memory_mb',
  'minWorkers',
  'maxWorkers',
  'cpu.minWorkers',
  'cpu.maxWorkers',
  'gpu.minWorkers',
  'gpu.maxWorkers',
  'load_on_devices',
  'option.gpu_memory_utilization',
  'job_queue_size',
  'retry_threshold',
  'retry_cool_down',
  'option.request_retries',
  'option.kv_cache_memory_mb',
  'option.preemption_mode',
  'option.swap_space',
  'option.threads_per_rank',
  'option.intraOpNumThreads',
  'option.interOpNumThreads',
  'option.verify_checksums',
  'option.handler_memory_mb',
  'option.onnx_memory_mb',
  'option.report_cached_tokens',
];
const WORKER_KEY = /^(?:[cg]pu\.)?(?:min|max)Workers$/;
const CHAT_TEMPLATE = 'option.chat_template';
const MODEL_ID = 'option.model_id';
const TRUST_CODE = 'option.trust_remote_code';

/** @param shared what the operator says of all models */
export function trustedLayer(
  layer: Layer,
  folder: string,
  trust: ModelTrust,
  shared: readonly Layer[],
  problems: Problems,
): Layer {
  const ofOperator = new Set(shared.flat().map(({ row }) => resourceOf(row.name)));
  if (trust === 'operator') return layer;
  return layer.filter((entry) => {
    const { row, text, where } = entry;
    // A brace makes it a template, not a path.
    const isPath =
      text !== '' &&
      ((row.name === CHAT_TEMPLATE && !text.includes('{')) ||
        (row.name === MODEL_ID && trust === 'fetched' && isLocal(entry)));
    if (isPath && (/^file:/i.test(text) || !isWithin(folder, path.resolve(entry.baseFolder, text)))) {
      problems.error(
        `${where}: ${entry.given} names a file outside the model's folder, which a model that was ${trust} may not`,
      );
      return false;
    }
    if (row.name === TRUST_CODE) {
      problems.warn(
        `${where}: ${entry.given} is left out: a model that was ${trust} does not trust its own code; the operator says so for all models`,
      );
      return false;
    }
    if (trust === 'fetched' && RESOURCE_KEYS.includes(row.name)) {
      problems.warn(
        `${where}: ${entry.given} is left out: a model that was fetched sets no resources of this machine; set it server-wide or at its registration`,
      );
      return false;
    }
    if (RESOURCE_KEYS.includes(row.name) && ofOperator.has(resourceOf(row.name))) {
      problems.warn(
        `${where}: ${entry.given} is left out: a model that was registered by a request does not override what is set for all models; set it at its registration`,
      );
      return false;
    }
    return true;
  });
}

/** The keys of a model's workers limit one thing, by device or not. */
const resourceOf = (key: string): string => (WORKER_KEY.test(key) ? 'workers' : key);

/** Not a URL; an id of the hub looks like a relative path, and is one only where something lies there. */
function isLocal({ baseFolder, text }: Entry): boolean {
  if (/^file:/i.test(text)) return true;
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(text)) return false;
  if (path.isAbsolute(text) || text.split('/').includes('..')) return true;
  return realOrNull(path.resolve(baseFolder, text)) !== null;
}

/** Links followed; what is not there lies where it is named. */
function isWithin(folder: string, file: string): boolean {
  const at = path.relative(realOrNull(folder) ?? folder, realOrNull(file) ?? file);
  return at !== '..' && !at.startsWith('../') && !path.isAbsolute(at);
}

function realOrNull(file: string): string | null {
  try {
    return realpathSync(file);
  } catch {
    return null;
  }
}
