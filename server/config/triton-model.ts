/**
 * A folder of Triton's model repository: config.pbtxt and its numbered versions, as keys of the key table.
 *
 * In      a folder with config.pbtxt
 * Out     keys and their values, and the file of the version that is served
 * Limits  MAX_CONFIG_FILE_BYTES; one version: the latest that version_policy allows
 * Errors  Problems: a platform that does not run here (with how to export the model), no version, what would change answers
 * Source  Triton's model configuration
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import type { ForeignModel } from './foreign-layout.js';
import { PbtxtError, type PbtxtFields, type PbtxtValue, parsePbtxt } from './pbtxt.js';
import type { Problems } from './problems.js';

const ONNX = ['onnxruntime_onnx', 'onnxruntime'];
const EXPORTS: Readonly<Record<string, string>> = {
  pytorch:
    'export it with torch.onnx.export(torch.jit.load("model.pt"), example, "model.onnx", dynamic_axes=…)',
  tensorrt: 'give the model.onnx that its plan was built from',
  tensorflow: 'export it with python -m tf2onnx.convert --saved-model model.savedmodel --output model.onnx',
  python: 'write it as a handler (model.ts)',
  ensemble: 'it is a workflow: register its folder by POST /workflows',
};
/** They change when a request runs, not what it answers. */
const WITHOUT_EFFECT = [
  'optimization',
  'response_cache',
  'model_transaction_policy',
  'metric_tags',
  'parameters',
];
const REFUSED = ['sequence_batching', 'batch_input', 'batch_output'];

export function tritonModel(folder: string, where: string, problems: Problems): ForeignModel {
  const fields = read(path.join(folder, 'config.pbtxt'), where, problems);
  if (fields === null) return { values: {}, modelFile: null };
  const given = textOf(fields.get('backend')) ?? textOf(fields.get('platform')) ?? 'onnxruntime';
  const platform = fields.has('ensemble_scheduling') ? 'ensemble' : given;
  if (!ONNX.includes(platform)) {
    const advice = Object.entries(EXPORTS).find(([name]) => platform.includes(name))?.[1];
    problems.error(`${where}: ${platform} does not run here${advice === undefined ? '' : `: ${advice}`}`);
  }
  for (const name of REFUSED.filter((one) => fields.has(one)))
    problems.error(`${where}: ${name} is not served in this version`);
  for (const name of WITHOUT_EFFECT.filter((one) => fields.has(one)))
    problems.warn(`${where}: ${name} has no effect here`);
  refuseDevices(fields, where, problems);
  const most = numberOf(fields.get('max_batch_size')) ?? 0;
  const batching = fieldsOf(fields.get('dynamic_batching'));
  const delayUs = numberOf(batching?.get('max_queue_delay_microseconds')) ?? 0;
  const instances = (fields.get('instance_group') ?? [])
    .map((group) => numberOf(group instanceof Map ? group.get('count') : undefined) ?? 1)
    .reduce((sum, count) => sum + count, 0);
  const workers = instances === 0 ? {} : { minWorkers: String(instances), maxWorkers: String(instances) };
  return {
    values: {
      engine: 'OnnxRuntime',
      // Without dynamic_batching each request runs alone, however many rows it has.
      batch_size: String(batching === null ? 1 : Math.max(1, most)),
      max_batch_delay: String(Math.ceil(delayUs / 1000)),
      ...workers,
    },
    modelFile: versionFile(folder, fields, where, problems),
  };
}

function read(file: string, where: string, problems: Problems): PbtxtFields | null {
  const { size } = statSync(file);
  if (size > MAX_CONFIG_FILE_BYTES) {
    problems.error(`${where}: config.pbtxt has ${size} bytes, of at most ${MAX_CONFIG_FILE_BYTES}`);
    return null;
  }
  try {
    return parsePbtxt(readFileSync(file, 'utf8'));
  } catch (error) {
    if (!(error instanceof PbtxtError)) throw error;
    problems.error(`${where}: config.pbtxt:${error.line}: ${error.message}`);
    return null;
  }
}

/** The latest version that is there and allowed. */
function versionFile(folder: string, fields: PbtxtFields, where: string, problems: Problems): string | null {
  const name = textOf(fields.get('default_model_filename')) ?? 'model.onnx';
  if (!/^[\w-][\w.-]*$/.test(name)) {
    problems.error(`${where}: default_model_filename ${name} is no name of a file`);
    return null;
  }
  const policy = fieldsOf(fields.get('version_policy'));
  const specific = fieldsOf(policy?.get('specific'))
    ?.get('versions')
    ?.filter((one) => typeof one === 'number');
  const versions = readdirSync(folder)
    .filter((entry) => /^[1-9]\d*$/.test(entry) && (specific?.includes(Number(entry)) ?? true))
    .map(Number)
    .sort((a, b) => b - a);
  const [latest] = versions;
  if (latest === undefined) {
    problems.error(
      specific === undefined
        ? `${where}: there is no numbered folder of a version`
        : `${where}: none of the versions ${specific.join(', ')} is there`,
    );
    return null;
  }
  const wanted = numberOf(fieldsOf(policy?.get('latest'))?.get('num_versions')) ?? 1;
  if (versions.length > 1 && (policy?.has('all') || specific !== undefined || wanted > 1))
    problems.warn(`${where}: of versions ${versions.join(', ')} only ${latest} is served`);
  const file = path.join(String(latest), name);
  if (!existsSync(path.join(folder, file))) problems.error(`${where}: there is no ${file}`);
  return file;
}

function refuseDevices(fields: PbtxtFields, where: string, problems: Problems): void {
  const kinds = (fields.get('instance_group') ?? []).map((group) =>
    group instanceof Map ? wordOf(group.get('kind')) : null,
  );
  if (kinds.includes('KIND_GPU')) problems.warn(`${where}: KIND_GPU: ONNX models run on the CPU here`);
}

const textOf = (values: PbtxtValue[] | undefined): string | null => {
  const last = values?.at(-1);
  return typeof last === 'string' && last !== '' ? last : null;
};
const numberOf = (values: PbtxtValue[] | undefined): number | null => {
  const last = values?.at(-1);
  return typeof last === 'number' && Number.isSafeInteger(last) && last >= 0 ? last : null;
};
const fieldsOf = (values: PbtxtValue[] | undefined): PbtxtFields | null => {
  const last = values?.at(-1);
  return last instanceof Map ? last : null;
};
const wordOf = (values: PbtxtValue[] | undefined): string | null => {
  const last = values?.at(-1);
  return typeof last === 'object' && !(last instanceof Map) ? last.word : null;
};
