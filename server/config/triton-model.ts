/**
 * A folder of Triton's model repository: config.pbtxt and its numbered versions, as keys of the key table.
 *
 * In      a folder with config.pbtxt; the version that is wanted
 * Out     keys and their values, the file of that version, or else of the latest that version_policy allows; the versions that it allows
 * Limits  MAX_CONFIG_FILE_BYTES, MAX_VERSIONS
 * Errors  Problems: a platform that does not run here (with how to export the model), no version, what would change answers
 * Source  Triton's model configuration
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../proto/limits.js';
import { type ForeignModel, MAX_WARM_UP_BYTES, type WarmUp } from './foreign-layout.js';
import { PbtxtError, type PbtxtFields, type PbtxtValue, parsePbtxt } from './pbtxt.js';
import { Problems } from './problems.js';

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
/** More are a mistake of a policy: each has a process. */
const MAX_VERSIONS = 16;
/** Runs, of all together. */
const MAX_WARM_UPS = 100;

/** @param version of its numbered folders; null: the latest that its policy allows */
export function tritonModel(
  folder: string,
  version: string | null,
  where: string,
  problems: Problems,
): ForeignModel {
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
    modelFile: versionFile(folder, fields, version, where, problems),
    repository: {
      isLatest: numbered(version) === null || version === allowedVersions(folder, fields).at(-1),
      inputs: namesOf(fields.get('input')),
      outputs: namesOf(fields.get('output')),
      preferredRows: (batching?.get('preferred_batch_size') ?? []).filter(
        (size): size is number => typeof size === 'number' && size > 0 && size <= most,
      ),
      warmUps: warmUpsOf(fields.get('model_warmup') ?? [], most, where, problems),
    },
  };
}

/** Versions that a server starts with, the oldest first; none: the folder is no such one, or has none. */
export function tritonVersions(folder: string): readonly string[] {
  if (!existsSync(path.join(folder, 'config.pbtxt'))) return [];
  const fields = read(path.join(folder, 'config.pbtxt'), '', new Problems());
  return fields === null || fields.has('ensemble_scheduling') ? [] : allowedVersions(folder, fields);
}

const namesOf = (tensors: PbtxtValue[] | undefined): string[] =>
  (tensors ?? []).flatMap((one) => (one instanceof Map ? (textOf(one.get('name')) ?? []) : []));

function warmUpsOf(values: PbtxtValue[], most: number, where: string, problems: Problems): WarmUp[] {
  let left = MAX_WARM_UPS;
  return values
    .flatMap((one) => warmUpOf(one, most, where, problems))
    .map(({ runs, shapes }) => {
      const own = Math.min(runs, left);
      left -= own;
      return { runs: own, shapes };
    })
    .filter(({ runs }) => runs > 0);
}

/** Its data are zeros, whatever it names: what is warmed up are memory and threads. */
function warmUpOf(value: PbtxtValue, most: number, where: string, problems: Problems): WarmUp[] {
  if (!(value instanceof Map)) return [];
  const rows = numberOf(value.get('batch_size')) ?? 0;
  const shapes = (value.get('inputs') ?? []).flatMap((pair) => {
    const [name, tensor] = pair instanceof Map ? [textOf(pair.get('key')), fieldsOf(pair.get('value'))] : [];
    const dims = (tensor?.get('dims') ?? []).filter((one): one is number => typeof one === 'number');
    const shape = most > 0 ? [Math.max(1, rows), ...dims] : dims;
    // As if of the largest type: which it has is not known yet.
    const bytes = shape.reduce((product, length) => product * Math.abs(length), 8);
    if (bytes > MAX_WARM_UP_BYTES)
      problems.error(
        `${where}: model_warmup has an input of [${shape.slice(0, 16).join(',')}], of at most ${MAX_WARM_UP_BYTES} bytes`,
      );
    return name == null ? [] : [[name, shape] as const];
  });
  if (rows > Math.max(1, most)) problems.error(`${where}: model_warmup has ${rows} rows, of at most ${most}`);
  const runs = Math.max(1, numberOf(value.get('count')) ?? 1);
  return [{ runs, shapes: Object.fromEntries(shapes) }];
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

/** A version that is no number is a name that somebody has given the latest. */
const numbered = (version: string | null): string | null =>
  version !== null && /^[1-9]\d*$/.test(version) ? version : null;

/** Numbered folders, the oldest first. */
const versionsIn = (folder: string): number[] =>
  readdirSync(folder)
    .filter((entry) => /^[1-9]\d*$/.test(entry))
    .map(Number)
    .sort((a, b) => a - b);

/** Those that version_policy allows, the oldest first: the latest one where it says nothing. */
function allowedVersions(folder: string, fields: PbtxtFields): string[] {
  const policy = fieldsOf(fields.get('version_policy'));
  const specific = fieldsOf(policy?.get('specific'))?.get('versions');
  const there = versionsIn(folder);
  const latest = numberOf(fieldsOf(policy?.get('latest'))?.get('num_versions')) ?? 1;
  const allowed =
    specific !== undefined
      ? there.filter((one) => specific.includes(one))
      : policy?.has('all')
        ? there
        : there.slice(-Math.max(1, latest));
  return allowed.slice(-MAX_VERSIONS).map(String);
}

/** @param version that is wanted: one that the policy does not allow may be asked for, too, as by Triton's explicit control */
function versionFile(
  folder: string,
  fields: PbtxtFields,
  version: string | null,
  where: string,
  problems: Problems,
): string | null {
  const name = textOf(fields.get('default_model_filename')) ?? 'model.onnx';
  if (!/^[\w-][\w.-]*$/.test(name)) {
    problems.error(`${where}: default_model_filename ${name} is no name of a file`);
    return null;
  }
  const there = versionsIn(folder);
  if (there.length === 0) {
    problems.error(`${where}: there is no numbered folder of a version`);
    return null;
  }
  const wanted = numbered(version) ?? allowedVersions(folder, fields).at(-1);
  if (wanted === undefined || !there.includes(Number(wanted))) {
    const what = wanted === undefined ? 'none of the versions of its policy' : `no version ${wanted}`;
    problems.error(`${where}: ${what} is there, of ${there.join(', ')}`);
    return null;
  }
  const file = path.join(wanted, name);
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
