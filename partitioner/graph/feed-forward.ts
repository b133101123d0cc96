/**
 * The MLP of a layer, or its experts.
 *
 * In      LinearBuilder, x [tokens, hidden]
 * Out     nodes that make `outputs`, [tokens, hidden] each: this rank's summand, or its pieces (sum-pieces.ts)
 *
 * Experts  every rank holds a slice of every expert, and the whole router, so that all choose alike. The tokens' rows are put
 *          in the order of the experts they visit, k rows a token, and cut: an expert computes its own rows only, in the same
 *          operators as an MLP, and none when nobody visits it. Then the rows go back to their tokens and are weighed.
 * Source   transformers modeling_mixtral.py, modeling_qwen2_moe.py
 */
import assert from 'node:assert';
import { type Activation, type ExpertsShape, hasExperts, type RoutingShape } from '../plan/model-shape.js';
import type { Plan } from '../plan/plan.js';
import { DATA_TYPE, type OnnxWriter } from './onnx-writer.js';

/** What of a segment's builder the feed-forward part needs. */
export interface LinearBuilder {
  readonly plan: Plan;
  has(name: string): boolean;
  /** Rows of a linear on this rank. */
  outputs(name: string): number;
  weight(graph: OnnxWriter, name: string): string;
  /** x [n, inputs] → [n, outputs] */
  linear(graph: OnnxWriter, name: string, x: string, output: string): string;
  /** A row-parallel linear: each piece of the inputs → a product of its own, in `outputs`. */
  rowLinear(graph: OnnxWriter, name: string, inputs: readonly string[], outputs: readonly string[]): void;
}

export function feedForward(
  builder: LinearBuilder,
  graph: OnnxWriter,
  layer: number,
  x: string,
  outputs: readonly string[],
): void {
  const role = `layer-${layer}`;
  if (!hasExperts(builder.plan.shape, layer)) {
    mlp(builder, graph, role, x, outputs);
    return;
  }
  const [output = '', ...others] = outputs;
  assert(others.length === 0, `${role} has experts, which are not cut into pieces`);
  if (builder.plan.shape.experts?.sharedFfnSize == null) {
    experts(builder, graph, role, x, output);
    return;
  }
  experts(builder, graph, role, x, 'chosen-sum');
  mlp(builder, graph, `${role}.shared`, x, ['shared']);
  if (!builder.has(`${role}.shared-router`)) {
    graph.node('Add', ['chosen-sum', 'shared'], [output]);
    return;
  }
  const router = builder.weight(graph, `${role}.shared-router`);
  const score = graph.node('Gemm', [x, router], ['shared-score'], { transB: 1 });
  const weight = graph.node('Sigmoid', [score], ['shared-weight']);
  graph.node('Mul', ['shared', weight], ['shared-weighed']);
  graph.node('Add', ['chosen-sum', 'shared-weighed'], [output]);
}

/**
 * down(activation(gate(x)) · up(x)), or down(activation(up(x))); a clamped gate cuts both halves first. Where `down` is cut into
 * pieces, all between is done a piece at a time: the columns are split once in any case.
 */
function mlp(
  builder: LinearBuilder,
  graph: OnnxWriter,
  role: string,
  x: string,
  outputs: readonly string[],
): void {
  const { activation } = builder.plan.shape;
  const names = (what: string): string[] =>
    outputs.map((_, index) => `${role}.${what}${outputs.length === 1 ? '' : `-${index}`}`);
  const activated = names('activated');
  if (builder.has(`${role}.up`)) {
    const up = builder.linear(graph, `${role}.up`, x, `${role}.up-columns`);
    const raised = outputs.length === 1 ? [up] : names('raised');
    if (outputs.length > 1) split(graph, role, up, raised, builder.outputs(`${role}.up`));
    const numbers = activation === 'xielu' ? xieluNumbers(builder, graph, role) : null;
    raised.forEach((value, index) => {
      const made = activated[index] ?? '';
      if (numbers === null) activate(graph, activation, value, made);
      else xielu(graph, numbers, value, made);
    });
    builder.rowLinear(graph, `${role}.down`, activated, outputs);
    return;
  }
  const packed = builder.linear(graph, `${role}.gate-up`, x, `${role}.packed`);
  const [gated, raised, products] = [names('gated'), names('raised'), names('product')];
  split(graph, role, packed, [...gated, ...raised], builder.outputs(`${role}.gate-up`));
  products.forEach((product, index) => {
    const halves = clamp(builder, graph, role, index, gated[index] ?? '', raised[index] ?? '');
    activate(graph, activation, halves.gated, activated[index] ?? '');
    graph.node('Mul', [activated[index] ?? '', halves.raised], [product]);
  });
  builder.rowLinear(graph, `${role}.down`, products, outputs);
}

/** Equal parts of the columns. */
function split(graph: OnnxWriter, role: string, x: string, parts: readonly string[], columns: number): void {
  const sizes = graph.integers(`${role}.sizes`, new Array<number>(parts.length).fill(columns / parts.length));
  const [first = '', ...others] = parts;
  graph.node('Split', [x, sizes], [first, ...others], { axis: 1 });
}

/** Both halves of a piece of the MLP, cut where the shape says so. */
function clamp(
  builder: LinearBuilder,
  graph: OnnxWriter,
  role: string,
  index: number,
  gated: string,
  raised: string,
): { gated: string; raised: string } {
  const { clampedGate } = builder.plan.shape;
  if (clampedGate === null) return { gated, raised };
  const { limit, raisedAddend } = clampedGate;
  const constant = (name: string, value: number): string =>
    graph.floats(`${role}.${name}-${index}`, [value], []);
  const most = constant('most', limit);
  const cut = graph.node('Clip', [raised, constant('least', -limit), most], [`${raised}.cut`]);
  return {
    gated: graph.node('Clip', [gated, '', most], [`${gated}.cut`]),
    raised: graph.node('Add', [cut, constant('addend', raisedAddend)], [`${raised}.added`]),
  };
}

/** The chosen experts' outputs, weighed and added. n = tokens · k rows */
function experts(builder: LinearBuilder, graph: OnnxWriter, role: string, x: string, output: string): void {
  const { experts: shape, hiddenSize } = builder.plan.shape;
  assert(shape, `${role} has no experts`);
  const { count, perToken } = shape;
  const k = graph.integers('per-token', [perToken]);
  const router = builder.weight(graph, `${role}.router`);
  const bias = shape.biases ? [builder.weight(graph, `${role}.router.bias`)] : [];
  const scores = graph.node('Gemm', [x, router, ...bias], ['scores'], { transB: 1 });
  const addend = builder.has(`${role}.router-choice`) ? builder.weight(graph, `${role}.router-choice`) : null;
  const weights =
    shape.routing.scoring === 'nearest-softmax'
      ? chooseNearest(graph, scores, shape)
      : isPlain(shape, addend)
        ? choose(graph, scores, k, shape.normalised)
        : chooseByScores(graph, scores, k, shape, addend);

  // Rows by expert: `order` [n] says which of the token's visits stands where, `counts` [count] how many each expert gets.
  const flat = graph.node('Reshape', ['chosen-experts', graph.integers('flat', [-1])], ['visits']);
  const n = graph.node('Shape', [flat], ['n']);
  graph.node('TopK', [flat, n], ['sorted', 'order'], { largest: 0 });
  const tokens = graph.node('Div', ['order', k], ['visiting']);
  const isWeighedBefore = shape.routing.weighs === 'inputs';
  let rows = graph.node('Gather', [x, tokens], ['rows-by-expert'], { axis: 0 });
  if (isWeighedBefore) {
    const all = graph.node('Reshape', [weights, graph.integers('weight-column', [-1, 1])], ['weight-rows']);
    const own = graph.node('Gather', [all, 'order'], ['weights-by-expert'], { axis: 0 });
    rows = graph.node('Mul', [rows, own], ['weighed-rows']);
  }
  const column = graph.node('Reshape', [flat, graph.integers('column', [-1, 1])], ['visits-column']);
  const ids = graph.integers(
    'ids',
    Array.from({ length: count }, (_, expert) => expert),
  );
  const matches = graph.node('Equal', [column, ids], ['matches']);
  const ones = graph.node('Cast', [matches], ['ones'], { to: DATA_TYPE.int64 });
  graph.node('ReduceSum', [ones, graph.integers('first', [0])], ['counts'], { keepdims: 0 });
  const names = Array.from({ length: count }, (_, expert) => `rows-${expert}`);
  const [first = '', ...others] = names;
  graph.node('Split', [rows, 'counts'], [first, ...others], { axis: 0 });

  const outputs = names.map((name, expert) => {
    const made = `made-${expert}`;
    mlp(builder, graph, `${role}.expert-${expert}`, name, [made]);
    return made;
  });
  const together = graph.node('Concat', outputs, ['together'], { axis: 0 });

  // The order of an order is its inverse.
  graph.node('TopK', ['order', n], ['counting', 'inverse'], { largest: 0 });
  const back = graph.node('Gather', [together, 'inverse'], ['rows-by-token'], { axis: 0 });
  const visits = graph.node(
    'Reshape',
    [back, graph.integers('visits-shape', [-1, perToken, hiddenSize])],
    ['visits-by-token'],
  );
  if (isWeighedBefore) {
    graph.node('ReduceSum', [visits, graph.integers('visit-axis', [1])], [output], { keepdims: 0 });
    return;
  }
  const factors = graph.node(
    'Reshape',
    [weights, graph.integers('weights-shape', [-1, perToken, 1])],
    ['factors'],
  );
  graph.node('Mul', [visits, factors], ['weighed']);
  graph.node('ReduceSum', ['weighed', graph.integers('visit-axis', [1])], [output], { keepdims: 0 });
}

/**
 * Which experts a token visits, `chosen-experts` [tokens, k], and how much each counts. Probabilities of the chosen ones that
 * are made to sum up to 1 are a softmax of the chosen scores.
 *
 * @returns weights [tokens, k]
 */
function choose(graph: OnnxWriter, scores: string, k: string, isNormalised: boolean): string {
  const softmax = (x: string, output: string): string => graph.node('Softmax', [x], [output], { axis: -1 });
  const topK = (x: string): string => graph.node('TopK', [x, k], ['chosen', 'chosen-experts'], { axis: -1 });
  return isNormalised ? softmax(topK(scores), 'weights') : topK(softmax(scores, 'probabilities'));
}

/**
 * The best of the scores that are left, k times; each counts by a softmax over those that are left and near it. Source: transformers
 * modeling_phimoe.py (sparsemixer, not training)
 */
function chooseNearest(
  graph: OnnxWriter,
  scores: string,
  { count, perToken, routing }: ExpertsShape,
): string {
  const lost = graph.floats('lost', [Number.NEGATIVE_INFINITY], []);
  const nearness = graph.floats('nearness', [routing.nearness ?? 0], []);
  const single = graph.integers('single', [1]);
  const experts = graph.integers(
    'all-experts',
    Array.from({ length: count }, (_, expert) => expert),
  );
  const magnitude = graph.node('Abs', [scores], ['magnitude']);
  let left = scores;
  const chosen: string[] = [];
  const weights: string[] = [];
  for (let turn = 0; turn < perToken; turn++) {
    const node = (type: string, inputs: string[], name: string, attributes = {}): string =>
      graph.node(type, inputs, [`${name}-${turn}`], attributes);
    graph.node('TopK', [left, single], [`best-${turn}`, `best-at-${turn}`], { axis: -1 });
    const [best, at] = [`best-${turn}`, `best-at-${turn}`];
    const factor = node('Max', [magnitude, best], 'factor');
    const distance = node('Div', [node('Sub', [best, scores], 'below-best'), factor], 'distance');
    const isFar = node('Greater', [distance, nearness], 'is-far');
    const near = node('Where', [isFar, lost, left], 'near');
    const chances = node('Softmax', [near], 'chances', { axis: -1 });
    weights.push(node('GatherElements', [chances, at], 'weight', { axis: 1 }));
    chosen.push(at);
    left = node('Where', [node('Equal', [experts, at], 'is-chosen'), lost, left], 'left');
  }
  const [first = '', ...others] = chosen;
  graph.node('Concat', [first, ...others], ['chosen-experts'], { axis: 1 });
  return graph.node('Concat', weights, ['weights'], { axis: 1 });
}

/** A softmax decides, and nothing else. */
const isPlain = ({ routing }: ExpertsShape, addend: string | null): boolean =>
  routing.scoring === 'softmax' && routing.groups === null && routing.scale === 1 && addend === null;

/** As choose(), where scores are sigmoids, or chosen by more than themselves. Source: transformers modeling_deepseek_v3.py */
function chooseByScores(
  graph: OnnxWriter,
  scores: string,
  k: string,
  { count, normalised, routing }: ExpertsShape,
  addend: string | null,
): string {
  const own =
    routing.scoring === 'sigmoid'
      ? graph.node('Sigmoid', [scores], ['probabilities'])
      : graph.node('Softmax', [scores], ['probabilities'], { axis: -1 });
  // Far from 0 sigmoids are one number: the scores themselves have an order.
  const isOrder = routing.scoring === 'sigmoid' && addend === null && routing.groups === null;
  let choice = isOrder ? scores : addend === null ? own : graph.node('Add', [own, addend], ['choice']);
  if (routing.groups !== null) choice = ofBestGroups(graph, choice, count, routing.groups);
  graph.node('TopK', [choice, k], ['chosen-scores', 'chosen-experts'], { axis: -1 });
  let weights = graph.node('GatherElements', [own, 'chosen-experts'], ['chosen'], { axis: 1 });
  if (normalised) {
    const sum = graph.node('ReduceSum', [weights, graph.integers('chosen-axis', [1])], ['chosen-total']);
    weights = graph.node('Div', [weights, sum], ['weights']);
  }
  if (routing.scale === 1) return weights;
  return graph.node('Mul', [weights, graph.floats('routing-scale', [routing.scale], [])], ['scaled-weights']);
}

/** Scores of the groups whose best (one or two) have the largest sum, -infinity for the others. */
function ofBestGroups(
  graph: OnnxWriter,
  scores: string,
  experts: number,
  { by, chosen, count }: NonNullable<RoutingShape['groups']>,
): string {
  const grouped = graph.node(
    'Reshape',
    [scores, graph.integers('groups-shape', [-1, count, experts / count])],
    ['grouped'],
  );
  graph.node('TopK', [grouped, graph.integers('judged-by', [by])], ['best-of-group', 'best-of-group-at'], {
    axis: -1,
  });
  const sums = graph.node('ReduceSum', ['best-of-group', graph.integers('group-axis', [2])], ['group-sums'], {
    keepdims: 0,
  });
  const most = graph.integers('chosen-groups', [chosen]);
  graph.node('TopK', [sums, most], ['best-sums', 'best-groups'], { axis: -1 });
  const least = graph.node('ReduceMin', ['best-sums', graph.integers('sum-axis', [1])], ['least-sum']);
  const isBest = graph.node('GreaterOrEqual', [sums, least], ['is-best']);
  const column = graph.node(
    'Reshape',
    [isBest, graph.integers('mask-shape', [-1, count, 1])],
    ['is-best-column'],
  );
  const nothing = graph.floats('nothing', [Number.NEGATIVE_INFINITY], []);
  graph.node('Where', [column, grouped, nothing], ['masked']);
  return graph.node('Reshape', ['masked', graph.integers('flat-groups', [-1, experts])], ['of-best-groups']);
}

/** Names of values that all pieces of an MLP read. */
interface XieluNumbers {
  positive: string;
  negative: string;
  beta: string;
  eps: string;
  zero: string;
  one: string;
}

function xieluNumbers(builder: LinearBuilder, graph: OnnxWriter, role: string): XieluNumbers {
  const weight = (part: string): string => builder.weight(graph, `${role}.activation-${part}`);
  const beta = weight('beta');
  const softplus = (part: string): string =>
    graph.node('Softplus', [weight(part)], [`${role}.${part}-softplus`]);
  return {
    positive: softplus('alpha-p'),
    negative: graph.node('Add', [softplus('alpha-n'), beta], [`${role}.negative`]),
    beta,
    eps: weight('eps'),
    zero: graph.floats(`${role}.nothing`, [0], []),
    one: graph.floats(`${role}.one`, [1], []),
  };
}

/**
 * x > 0: p·x² + beta·x; else (expm1(min(x, eps)) − x)·n + beta·x. Source: transformers activations.py. There is no expm1: near 0 it is
 * tanh(x / 2)·(exp(x) + 1), which loses nothing.
 */
function xielu(graph: OnnxWriter, numbers: XieluNumbers, x: string, output: string): void {
  const { beta, eps, negative, one, positive, zero } = numbers;
  const node = (type: string, inputs: string[], name: string): string =>
    graph.node(type, inputs, [`${output}.${name}`]);
  const linear = node('Mul', [x, beta], 'linear');
  const square = node('Mul', [x, x], 'square');
  const above = node('Add', [node('Mul', [square, positive], 'scaled-square'), linear], 'above');
  const low = node('Min', [x, eps], 'low');
  const half = graph.floats(`${output}.half`, [0.5], []);
  const tanh = node('Tanh', [node('Mul', [low, half], 'low-half')], 'low-tanh');
  const exponential = node('Add', [node('Exp', [low], 'low-exp'), one], 'low-exp-one');
  const expm1 = node('Mul', [tanh, exponential], 'expm1');
  const bent = node('Mul', [node('Sub', [expm1, x], 'bend'), negative], 'scaled-bend');
  const below = node('Add', [bent, linear], 'below');
  graph.node('Where', [node('Greater', [x, zero], 'is-above'), above, below], [output]);
}

export function activate(graph: OnnxWriter, activation: Activation, x: string, output: string): void {
  switch (activation) {
    case 'silu':
      // x · sigmoid(alpha · x) with alpha 1 is SiLU, in one node with a vector kernel.
      graph.node('QuickGelu', [x], [output], { alpha: { float: 1 } }, 'com.microsoft');
      return;
    case 'quick-gelu':
      graph.node('QuickGelu', [x], [output], { alpha: { float: 1.702 } }, 'com.microsoft');
      return;
    case 'gelu':
      graph.node('Gelu', [x], [output], {}, 'com.microsoft');
      return;
    case 'gelu-tanh':
      graph.node('FastGelu', [x], [output], {}, 'com.microsoft');
      return;
    case 'relu':
      graph.node('Relu', [x], [output]);
      return;
    case 'xielu':
      assert.fail('xielu has numbers of its layer, and no gate');
      return;
    case 'relu-squared':
      graph.node('Relu', [x], [`${output}.relu`]);
      graph.node('Mul', [`${output}.relu`, `${output}.relu`], [output]);
      return;
  }
}
