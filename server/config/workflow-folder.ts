/**
 * Whether a folder is a workflow: models and functions that answer together.
 *
 * In      a folder: one of WORKFLOW_FILES in it, or Triton's config.pbtxt with ensemble_scheduling
 * Limits  MAX_CONFIG_FILE_BYTES of config.pbtxt
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import { WORKFLOW_FILES } from '../../proto/model-files.js';

const ENSEMBLE = /\bensemble_scheduling\b/;

export function isWorkflowFolder(folder: string): boolean {
  if (WORKFLOW_FILES.some((name) => existsSync(path.join(folder, name)))) return true;
  try {
    const file = path.join(folder, 'config.pbtxt');
    return statSync(file).size <= MAX_CONFIG_FILE_BYTES && ENSEMBLE.test(readFileSync(file, 'utf8'));
  } catch {
    // Not there.
    return false;
  }
}
