/**
 * A folder with a workflow, whoever's format it is in.
 *
 * In      WAR-INF/MANIFEST.json (TorchServe), workflow.json, .yml or .yaml (DJLServing), config.pbtxt with ensemble_scheduling (Triton)
 * Out     WorkflowSpec, checked
 * Limits  MAX_YAML_BYTES a file; YAML's core schema, few aliases
 * Errors  CHECKPOINT_INVALID
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { MAX_YAML_BYTES } from '../../proto/limits.js';
import { WORKFLOW_FILES } from '../../proto/model-files.js';
import { parsePbtxt } from '../config/pbtxt.js';
import { djlWorkflow } from './djl-workflow.js';
import { torchServeWorkflow, warFiles } from './torchserve-workflow.js';
import { tritonEnsemble } from './triton-ensemble.js';
import { checkedSpec, invalid, type WorkflowSpec } from './workflow-spec.js';

const MAX_ALIASES = 100;
const [MANIFEST, ...DJL_FILES] = WORKFLOW_FILES;

/** @throws ServingError */
export function readWorkflow(folder: string): WorkflowSpec {
  return checkedSpec(readAny(folder));
}

function readAny(folder: string): WorkflowSpec {
  const has = (name: string): boolean => existsSync(path.join(folder, name));
  if (has(MANIFEST)) {
    const { handler, name, specFile } = warFiles(read(folder, MANIFEST, yaml));
    return torchServeWorkflow(read(folder, specFile, yaml), name, handler);
  }
  const own = DJL_FILES.find(has);
  if (own !== undefined) return djlWorkflow(read(folder, own, yaml));
  if (has('config.pbtxt')) {
    const fields = read(folder, 'config.pbtxt', parsePbtxt);
    if (fields.has('ensemble_scheduling')) return tritonEnsemble(fields);
  }
  throw invalid(`there is none of ${WORKFLOW_FILES.join(', ')} in it, nor an ensemble's config.pbtxt`);
}

/** JSON is YAML. */
const yaml = (text: string): unknown => parse(text, { schema: 'core', maxAliasCount: MAX_ALIASES });

function read<T>(folder: string, name: string, parsed: (text: string) => T): T {
  const file = path.resolve(folder, name);
  const inside = path.relative(folder, file);
  const found = inside.startsWith('..') ? undefined : statSync(file, { throwIfNoEntry: false });
  if (!found?.isFile()) throw invalid(`there is no file ${name} in it`);
  if (found.size > MAX_YAML_BYTES)
    throw invalid(`${name} has ${found.size} bytes, of at most ${MAX_YAML_BYTES}`);
  try {
    return parsed(readFileSync(file, 'utf8'));
  } catch (error) {
    throw invalid(`${name} cannot be read: ${(error as Error).message.split('\n')[0]}`);
  }
}
