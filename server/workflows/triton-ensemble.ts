/**
 * Triton's ensemble: a config.pbtxt whose steps are other models of the repository, joined by tensors.
 *
 * In      fields of a config.pbtxt with ensemble_scheduling
 * Out     WorkflowSpec of tensors; a model that is not registered is its sibling folder
 * Errors  CHECKPOINT_INVALID: a tensor that no step gives, or two give
 * Source  Triton's model configuration
 */
import type { PbtxtFields, PbtxtValue } from '../config/pbtxt.js';
import type { TensorType } from '../requests/predict-request.js';
import type { TensorSpec } from '../requests/signature.js';
import {
  DEFAULT_TIMEOUT_MS,
  invalid,
  type Source,
  type SpecNode,
  type WorkflowSpec,
} from './workflow-spec.js';

/** @throws ServingError */
export function tritonEnsemble(fields: PbtxtFields): WorkflowSpec {
  const batched = (numberOf(fields.get('max_batch_size')) ?? 0) > 0;
  const inputs = (fields.get('input') ?? []).map((one) => tensorOf(one, batched));
  const outputs = (fields.get('output') ?? []).map((one) => tensorOf(one, batched));
  const scheduling = fields.get('ensemble_scheduling')?.at(-1);
  const steps = (scheduling instanceof Map ? (scheduling.get('step') ?? []) : []).map(stepOf);
  const givers = new Map<string, Source>(inputs.map(({ name }) => [name, { node: null, tensor: name }]));
  const names = steps.map(({ model }, at) => `${at}-${model}`.replace(/[^\w.-]/g, '_'));
  steps.forEach(({ outputMap }, at) => {
    for (const [own, shared] of outputMap) {
      if (givers.has(shared)) throw invalid(`tensor ${shared} is given twice`);
      givers.set(shared, { node: names[at]!, tensor: own });
    }
  });
  const giver = (shared: string, who: string): Source => {
    const source = givers.get(shared);
    if (source === undefined) throw invalid(`${who} takes tensor ${shared}, which no step gives`);
    return source;
  };
  const nodes = steps.map(
    ({ inputMap, model }, at): SpecNode => ({
      ...{ name: names[at]!, uses: model, timeoutMs: DEFAULT_TIMEOUT_MS, attempts: 1 },
      inputs: inputMap.map(([own, shared]) => ({ as: own, from: giver(shared, `step ${at}`) })),
    }),
  );
  return {
    name: textOf(fields.get('name')),
    ...{ version: null, signature: { inputs, outputs }, functions: [], nodes },
    models: [...new Set(steps.map(({ model }) => model))].map((name) => ({
      ...{ name, url: `../${name}`, keys: {}, mayBeThere: true },
    })),
    outputs: outputs.map(({ name }) => ({ name, from: giver(name, `output ${name}`) })),
  };
}

function stepOf(value: PbtxtValue) {
  const fields = value instanceof Map ? value : new Map<string, PbtxtValue[]>();
  const model = textOf(fields.get('model_name'));
  if (model === null || !/^[\w][\w.-]*$/.test(model)) throw invalid('a step has no model_name');
  const pairs = (name: string): [own: string, shared: string][] =>
    (fields.get(name) ?? []).map((one) => {
      const pair = one instanceof Map ? one : new Map<string, PbtxtValue[]>();
      const [key, shared] = [textOf(pair.get('key')), textOf(pair.get('value'))];
      if (key === null || shared === null) throw invalid(`${name} of ${model} is no list of keys and values`);
      return [key, shared];
    });
  return { model, inputMap: pairs('input_map'), outputMap: pairs('output_map') };
}

function tensorOf(value: PbtxtValue, batched: boolean): TensorSpec {
  const fields = value instanceof Map ? value : new Map<string, PbtxtValue[]>();
  const name = textOf(fields.get('name'));
  const type = fields.get('data_type')?.at(-1);
  const word = typeof type === 'object' && !(type instanceof Map) ? type.word : '';
  const dims = (fields.get('dims') ?? []).filter((one): one is number => typeof one === 'number');
  if (name === null || !word.startsWith('TYPE_')) throw invalid('a tensor has no name or no data_type');
  const own = word.slice('TYPE_'.length);
  return {
    name,
    type: (own === 'STRING' ? 'BYTES' : own) as TensorType,
    shape: batched ? [-1, ...dims] : dims,
  };
}

const textOf = (values: PbtxtValue[] | undefined): string | null => {
  const last = values?.at(-1);
  return typeof last === 'string' && last !== '' ? last : null;
};
const numberOf = (values: PbtxtValue[] | undefined): number | null => {
  const last = values?.at(-1);
  return typeof last === 'number' ? last : null;
};
