/**
 * TorchServe's workflow archive (.war), unpacked: WAR-INF/MANIFEST.json, its specification, and a file of functions.
 *
 * In      the manifest; the specification's YAML: `models` with defaults and a URL each, `dag`
 * Out     WorkflowSpec: names of the dag that are no model are functions of the manifest's handler file
 * Errors  CHECKPOINT_INVALID
 * Source  TorchServe's workflow archiver and specification; retry-attempts counts what follows a first failure
 */
import { isObject } from '../../proto/is-object.js';
import {
  DEFAULT_RETRIES,
  DEFAULT_TIMEOUT_MS,
  functionFile,
  invalid,
  type SpecNode,
  type WorkflowSpec,
} from './workflow-spec.js';

/** Those of models; each may say otherwise. */
const KEYS: Readonly<Record<string, string>> = {
  'min-workers': 'minWorkers',
  'max-workers': 'maxWorkers',
  'batch-size': 'batch_size',
  'max-batch-delay': 'max_batch_delay',
};
const OF_NODES = ['retry-attempts', 'timeout-ms'];
/** TorchServe's, where the file says nothing. */
const DEFAULTS = { 'max-batch-delay': 50 };

type Fields = Readonly<Record<string, unknown>>;

/** The names of the files that the manifest gives. @throws ServingError */
export function warFiles(manifest: unknown): {
  name: string | null;
  specFile: string;
  handler: string | null;
} {
  const workflow = isObject(manifest) && isObject(manifest.workflow) ? manifest.workflow : {};
  const { handler, specFile, workflowName } = workflow;
  if (typeof specFile !== 'string') throw invalid('its manifest names no specFile');
  return {
    specFile,
    name: typeof workflowName === 'string' ? workflowName : null,
    handler: typeof handler === 'string' ? handler : null,
  };
}

/** @throws ServingError */
export function torchServeWorkflow(spec: unknown, name: string | null, handler: string | null): WorkflowSpec {
  if (!isObject(spec)) throw invalid('its specification is no map of keys');
  const given = isObject(spec.models) ? spec.models : {};
  const isDefault = (key: string): boolean => key in KEYS || OF_NODES.includes(key);
  const defaults = {
    ...DEFAULTS,
    ...Object.fromEntries(Object.entries(given).filter(([key]) => isDefault(key))),
  };
  const models = Object.entries(given).flatMap(([key, fields]): [string, Fields][] =>
    isDefault(key) ? [] : [[key, { ...defaults, ...(isObject(fields) ? fields : {}) }]],
  );
  const edges = edgesOf(spec.dag);
  const names = new Set([...models.map(([key]) => key), ...edges.flat()]);
  const isModel = new Map(models);
  const functions = [...names].filter((key) => !isModel.has(key));
  if (functions.length > 0 && handler === null)
    throw invalid(`${functions.join(', ')} of its dag are no models, and its manifest names no handler file`);
  const nodes = [...names].map((node): SpecNode => {
    const parents = edges.filter(([, to]) => to === node).map(([from]) => from);
    const fields: Fields = isModel.get(node) ?? defaults;
    return {
      ...{ name: node, uses: node },
      // Several answers are told apart by who gave them.
      inputs:
        parents.length === 0
          ? [{ as: '', from: { node: null, tensor: null } }]
          : parents.map((parent) => ({
              as: parents.length === 1 ? '' : parent,
              from: { node: parent, tensor: null },
            })),
      timeoutMs: numberOf(fields['timeout-ms'] ?? DEFAULT_TIMEOUT_MS),
      attempts: 1 + numberOf(fields['retry-attempts'] ?? DEFAULT_RETRIES),
    };
  });
  const leaves = nodes.filter((node) => !edges.some(([from]) => from === node.name));
  return {
    ...{ name, version: null, signature: null, nodes },
    models: models.map(([key, fields]) => {
      if (typeof fields.url !== 'string') throw invalid(`model ${key} has no url`);
      const keys = Object.entries(KEYS).flatMap(([theirs, ours]) =>
        fields[theirs] === undefined ? [] : [[ours, String(fields[theirs])]],
      );
      return { name: key, url: fields.url, keys: Object.fromEntries(keys), mayBeThere: false };
    }),
    functions: functions.map((key) => ({ name: key, file: functionFile(handler!), exported: key })),
    outputs: leaves.map((node) => ({ name: node.name, from: { node: node.name, tensor: null } })),
  };
}

function edgesOf(dag: unknown): [from: string, to: string][] {
  if (!isObject(dag)) throw invalid('its specification has no dag');
  return Object.entries(dag).flatMap(([from, to]): [string, string][] =>
    [to].flat().map((one) => {
      if (typeof one !== 'string') throw invalid(`what follows ${from} in its dag is no list of names`);
      return [from, one];
    }),
  );
}

const numberOf = (value: unknown): number => (typeof value === 'number' ? value : Number.NaN);
