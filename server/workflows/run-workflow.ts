/**
 * Runs the nodes of a workflow: each as soon as what it waits for is there, branches beside each other.
 *
 * In      nodes with their models, the request; who asks a model
 * Out     the outputs; the only one's stream, where nothing else waits for its node
 * Limits  a node's timeout is for each try; it is tried again where the error may pass, `attempts` times in all, but not once it streams
 * Errors  what a node failed with, its name before the message; the others are given up then
 */
import { ServingError } from '../../proto/errors.js';
import type { ContentPart } from '../requests/invoke-request.js';
import type { NodeCall, NodeStream, NodeValue, WorkflowAnswer } from '../requests/workflows.js';
import type { Source, SpecNode, WorkflowSpec } from './workflow-spec.js';

export interface RunParts {
  nodes: readonly SpecNode[];
  outputs: WorkflowSpec['outputs'];
  /** A node's. */
  modelOf: (uses: string) => string;
  call: NodeCall;
  signal: AbortSignal;
}

/** @throws ServingError */
export async function runWorkflow(request: NodeValue, parts: RunParts): Promise<WorkflowAnswer> {
  const { nodes, outputs } = parts;
  const failed = new AbortController();
  const signal = AbortSignal.any([parts.signal, failed.signal]);
  const answers = new Map<string, Promise<NodeValue>>();
  const last = lastNode(parts);
  let stream: NodeStream | null = null;
  // Nodes come after those they wait for.
  for (const node of nodes) {
    const answer = answerOf(node, request, answers, { ...parts, signal }, node === last).then((value) => {
      if (value.kind !== 'stream') return value;
      stream = value;
      return { kind: 'content' as const, parts: [] };
    });
    // Whoever needs it is told.
    answer.catch(() => {});
    answers.set(node.name, answer);
  }
  try {
    await Promise.all(answers.values());
    if (stream !== null) return stream;
    const values = await Promise.all(
      outputs.map(
        async ({ from, name }) => [name, named(await sourceValue(from, request, answers), name)] as const,
      ),
    );
    const isTensors = request.kind === 'tensors';
    if (isTensors) {
      const tensors = values.flatMap(([, value]) => (value.kind === 'tensors' ? value.tensors : []));
      return { kind: 'one', value: { kind: 'tensors', tensors } };
    }
    const [only, another] = values;
    return another === undefined
      ? { kind: 'one', value: only![1] }
      : { kind: 'named', values: Object.fromEntries(values) };
  } catch (error) {
    failed.abort();
    throw error;
  }
}

/** The node whose answer is the workflow's, and nobody else's; null: there is none. */
function lastNode({ nodes, outputs }: RunParts): SpecNode | null {
  const [only, another] = outputs;
  if (only === undefined || another !== undefined || only.from.tensor !== null) return null;
  const isWaitedFor = nodes.some(({ inputs }) => inputs.some(({ from }) => from.node === only.from.node));
  return isWaitedFor ? null : (nodes.find(({ name }) => name === only.from.node) ?? null);
}

async function answerOf(
  node: SpecNode,
  request: NodeValue,
  answers: ReadonlyMap<string, Promise<NodeValue>>,
  { call, modelOf, signal }: RunParts,
  mayStream: boolean,
): Promise<NodeValue | NodeStream> {
  const given = await Promise.all(
    node.inputs.map(async ({ as, from }) => ({ as, value: await sourceValue(from, request, answers) })),
  );
  const value = joined(given);
  for (let attempt = 1; ; attempt++) {
    try {
      return await call(modelOf(node.uses), value, { signal, timeoutMs: node.timeoutMs, mayStream });
    } catch (error) {
      const failure = ServingError.from(error);
      if (failure.retryable && attempt < node.attempts && !signal.aborted) continue;
      if (failure.code === 'INTERNAL') throw failure;
      throw new ServingError(failure.code, `Node ${node.name}: ${failure.message}`, { cause: failure });
    }
  }
}

async function sourceValue(
  { node, tensor }: Source,
  request: NodeValue,
  answers: ReadonlyMap<string, Promise<NodeValue>>,
): Promise<NodeValue> {
  const value = node === null ? request : await answers.get(node)!;
  if (tensor === null || value.kind !== 'tensors') return value;
  const found = value.tensors.find(({ name }) => name === tensor);
  if (found === undefined)
    throw new ServingError(
      'BAD_REQUEST',
      `There is no tensor ${tensor}${node === null ? '' : ` of ${node}`}`,
    );
  return { kind: 'tensors', tensors: [found] };
}

/** Several answers are parts by their names; the only one is what it is. */
function joined(given: readonly { as: string; value: NodeValue }[]): NodeValue {
  const tensors = given.flatMap(({ as, value }) =>
    value.kind === 'tensors' ? value.tensors.map((tensor) => ({ ...tensor, name: as })) : [],
  );
  if (tensors.length > 0) return { kind: 'tensors', tensors };
  const parts = given.flatMap(({ as, value }): ContentPart[] => {
    if (value.kind !== 'content') return [];
    if (as === '') return [...value.parts];
    const [first] = value.parts;
    return first === undefined ? [] : [{ ...first, key: as }];
  });
  return { kind: 'content', parts };
}

const named = (value: NodeValue, name: string): NodeValue =>
  value.kind === 'content'
    ? value
    : { kind: 'tensors', tensors: value.tensors.map((tensor) => ({ ...tensor, name })) };
