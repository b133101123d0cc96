/**
 * Experts of a config.json → ExpertsShape.
 *
 * Errors  ServingError CHECKPOINT_INVALID: more experts a token than there are, a list of layers that is none
 * Source  transformers: modeling_qwen2_moe.py (which layers are sparse)
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { ExpertNames, ExpertsShape, Place, RoutingShape } from '../plan/model-shape.js';

/** Published models have fewer; more would be a damaged config.json. */
const MAX_EXPERTS = 1024;

export interface ExpertKeys {
  count: string;
  ffnSize: string;
  perToken?: string;
}

const SOFTMAX: RoutingShape = { scoring: 'softmax', groups: null, scale: 1 };

/** What config.json need not say. */
interface RoutingDefaults {
  groups: number;
  chosen: number;
  scale: number;
}
const ONE_GROUP: RoutingDefaults = { groups: 1, chosen: 1, scale: 1 };

/** DeepSeek V3's: sigmoids, a bias for the choice, the best groups, a scale. */
export function readSigmoidRouting(
  config: CheckpointConfig,
  count: number,
  defaults = ONE_GROUP,
): RoutingShape {
  return {
    scoring: 'sigmoid',
    groups: readGroups(config, count, 2, defaults),
    scale: config.positiveNumber('routed_scaling_factor', defaults.scale),
  };
}

/** Groups of experts. @param by so many of its best scores a group is judged */
export function readGroups(
  config: CheckpointConfig,
  count: number,
  by: 1 | 2,
  defaults = ONE_GROUP,
): RoutingShape['groups'] {
  const groups = config.positiveInteger('n_group', defaults.groups);
  const chosen = config.positiveInteger('topk_group', defaults.chosen);
  if (count % groups !== 0 || count / groups < by) {
    throw config.wrong('n_group', `a divisor of the ${count} experts, of ${by} at least`);
  }
  if (chosen > groups) throw config.wrong('topk_group', `at most n_group (${groups})`);
  const reachable = (count / groups) * chosen;
  if (config.positiveInteger('num_experts_per_tok', 1) > reachable) {
    throw config.wrong('num_experts_per_tok', `at most the ${reachable} experts of topk_group groups`);
  }
  return groups === chosen ? null : { count: groups, chosen, by };
}

/** Layers with experts: all from the first on. */
export function readLaterLayers(config: CheckpointConfig, firstKey: string, fallback: number): boolean[] {
  const numLayers = config.positiveInteger('num_hidden_layers');
  const first = config.has(firstKey) ? config.number(firstKey) : fallback;
  return Array.from({ length: Math.min(numLayers, 1024) }, (_, layer) => layer >= first);
}

/** @param layers which layers have experts */
export function readExperts(
  config: CheckpointConfig,
  keys: ExpertKeys,
  rest: Pick<ExpertsShape, 'normalised' | 'sharedFfnSize' | 'layers'> & {
    biases?: boolean;
    routing?: RoutingShape;
  },
): ExpertsShape {
  const count = config.positiveInteger(keys.count);
  if (count > MAX_EXPERTS) throw config.wrong(keys.count, `at most ${MAX_EXPERTS}`);
  const { perToken: perTokenKey = 'num_experts_per_tok' } = keys;
  const perToken = config.positiveInteger(perTokenKey);
  if (perToken > count) throw config.wrong(perTokenKey, `at most ${keys.count} (${count})`);
  const ffnSize = config.positiveInteger(keys.ffnSize);
  return { count, perToken, ffnSize, biases: false, routing: SOFTMAX, ...rest };
}

/**
 * By DeepSeek's keys. Experts that every token meets are one FFN of so many times the size.
 *
 * @param rest.routing of so many experts
 * @param rest.defaultShared how many all tokens meet, where config.json does not say
 */
export function readDeepseekExperts(
  config: CheckpointConfig,
  {
    defaultShared,
    routing,
    ...rest
  }: Pick<ExpertsShape, 'normalised' | 'layers'> & {
    routing: (count: number) => RoutingShape;
    defaultShared?: number;
  },
): ExpertsShape {
  const [count, ffnSize] = ['n_routed_experts', 'moe_intermediate_size'];
  return readExperts(
    config,
    { count, ffnSize },
    {
      ...rest,
      routing: routing(config.positiveInteger(count)),
      sharedFfnSize:
        config.positiveInteger('n_shared_experts', defaultShared) * config.positiveInteger(ffnSize),
    },
  );
}

/** Tensors of the layer behind the last, which predicts a second token in training. */
export const behindTheLast = (config: CheckpointConfig): RegExp =>
  new RegExp(`^model\\.layers\\.${config.positiveInteger('num_hidden_layers')}\\.`);

/** Qwen's rule: every `decoder_sparse_step`-th layer, but none of `mlp_only_layers`. */
export function readSparseLayers(config: CheckpointConfig): boolean[] {
  const numLayers = config.positiveInteger('num_hidden_layers');
  const step = config.positiveInteger('decoder_sparse_step', 1);
  const dense: unknown = config.raw.mlp_only_layers ?? [];
  if (!Array.isArray(dense) || dense.some((layer) => !Number.isSafeInteger(layer))) {
    throw config.wrong('mlp_only_layers', 'a list of layers');
  }
  return Array.from(
    { length: Math.min(numLayers, 1024) },
    (_, layer) => (layer + 1) % step === 0 && !dense.includes(layer),
  );
}

/**
 * Stacks of `experts`, a matrix for each: gate's outputs above up's, and down.
 *
 * @param transposed matrices are stored [in, out]
 */
export function stackedExperts(
  experts: string,
  ffnSize: number,
  transposed: boolean,
): Pick<ExpertNames, 'gate' | 'up' | 'down'> {
  const place = (tensor: string, half: 0 | 1 | null): Place => ({
    stem: `${experts}.${tensor}`,
    endings: { weight: '', bias: '' },
    stacked: true,
    rows: half === null ? null : { unitRows: ffnSize, groupUnits: 2, firstUnit: half, units: 1 },
    transposed,
  });
  return { gate: place('gate_up_proj', 0), up: place('gate_up_proj', 1), down: place('down_proj', null) };
}

const MLP = 'model.layers.{layer}.mlp';

/** DeepSeek's names, a tensor for each expert. */
export const DEEPSEEK_EXPERTS: ExpertNames = {
  router: `${MLP}.gate`,
  choiceBias: {
    stem: `${MLP}.gate.e_score_correction_bias`,
    endings: { weight: '', bias: '' },
    rows: null,
    transposed: false,
  },
  gate: `${MLP}.experts.{expert}.gate_proj`,
  up: `${MLP}.experts.{expert}.up_proj`,
  down: `${MLP}.experts.{expert}.down_proj`,
  shared: {
    router: null,
    gate: `${MLP}.shared_experts.gate_proj`,
    up: `${MLP}.shared_experts.up_proj`,
    down: `${MLP}.shared_experts.down_proj`,
  },
};
