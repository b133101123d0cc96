/**
 * A workflow as its file says it, whoever's format it was, checked: a graph without circles.
 *
 * In      models, functions, nodes, outputs
 * Out     nodes in an order in which each comes after those it waits for
 * Limits  MAX_NODES; MAX_TIMEOUT_MS and MAX_ATTEMPTS a node
 * Errors  CHECKPOINT_INVALID: a name that nobody has, a circle
 * Pure
 */
import { ServingError } from '../../proto/errors.js';
import type { Signature } from '../requests/signature.js';

const MAX_NODES = 256;
export const MAX_TIMEOUT_MS = 3_600_000;
export const MAX_ATTEMPTS = 10;
/** TorchServe's. */
export const DEFAULT_TIMEOUT_MS = 10_000;
export const DEFAULT_RETRIES = 1;

/** The request, or the answer of a node; of tensors one of them by its name. */
export interface Source {
  /** null: the request. */
  node: string | null;
  tensor: string | null;
}

export interface SpecNode {
  name: string;
  /** A model's or a function's. */
  uses: string;
  /** `as`: the part's key, or the tensor's name; ''. the whole, where it is the only one. */
  inputs: readonly { as: string; from: Source }[];
  timeoutMs: number;
  /** 1: no retry. */
  attempts: number;
}

export interface WorkflowSpec {
  name: string | null;
  version: string | null;
  /** An ensemble's; null: it takes bodies. */
  signature: Signature | null;
  models: readonly {
    name: string;
    url: string;
    /** Keys of the key table. */
    keys: Readonly<Record<string, string>>;
    /** One that is registered already under the URL's name serves. */
    mayBeThere: boolean;
  }[];
  functions: readonly { name: string; file: string; exported: string }[];
  nodes: readonly SpecNode[];
  /** One: its answer as it is; several: by name. */
  outputs: readonly { name: string; from: Source }[];
}

/** @throws ServingError CHECKPOINT_INVALID */
export function checkedSpec(spec: WorkflowSpec): WorkflowSpec {
  const { functions, models, nodes, outputs } = spec;
  if (nodes.length === 0) throw invalid('it has no node');
  if (nodes.length > MAX_NODES) throw invalid(`it has ${nodes.length} nodes, of at most ${MAX_NODES}`);
  if (outputs.length === 0) throw invalid('it has no output');
  const known = new Set([...models, ...functions].map(({ name }) => name));
  if (known.size < models.length + functions.length) throw invalid('a model and a function share a name');
  const byName = new Map(nodes.map((node) => [node.name, node]));
  if (byName.size < nodes.length) throw invalid('two nodes share a name');
  for (const { attempts, inputs, name, timeoutMs, uses } of nodes) {
    if (!/^[\w.-]{1,64}$/.test(name))
      throw invalid(`a node is called ${name}; letters, digits, _, . and - at most 64 of them, are a name`);
    if (!known.has(uses)) throw invalid(`node ${name} uses ${uses}, which is neither a model nor a function`);
    inRange(name, 'timeout-ms', timeoutMs, 1, MAX_TIMEOUT_MS);
    inRange(name, 'attempts', attempts, 1, MAX_ATTEMPTS);
    for (const { from } of inputs) checkSource(from, byName, `node ${name}`);
  }
  for (const { from, name } of outputs) checkSource(from, byName, `output ${name}`);
  return { ...spec, nodes: inOrder(nodes, byName) };
}

function checkSource({ node }: Source, nodes: ReadonlyMap<string, SpecNode>, who: string): void {
  if (node !== null && !nodes.has(node))
    throw invalid(`${who} takes the answer of ${node}, which is no node of it`);
}

function inOrder(nodes: readonly SpecNode[], byName: ReadonlyMap<string, SpecNode>): SpecNode[] {
  const ordered: SpecNode[] = [];
  const state = new Map<string, 'open' | 'done'>();
  const visit = (node: SpecNode): void => {
    if (state.get(node.name) === 'done') return;
    // DJLServing's words.
    if (state.get(node.name) === 'open')
      throw invalid(`Your workflow contains a cycle with target: ${node.name}`);
    state.set(node.name, 'open');
    for (const { from } of node.inputs) if (from.node !== null) visit(byName.get(from.node)!);
    state.set(node.name, 'done');
    ordered.push(node);
  };
  for (const node of nodes) visit(node);
  return ordered;
}

function inRange(node: string, key: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most)
    throw invalid(`${key} of node ${node} is ${value}; it must be a whole number from ${least} to ${most}`);
}

export const invalid = (message: string): ServingError =>
  new ServingError('CHECKPOINT_INVALID', `The workflow is refused: ${message}`);

/** A file of the workflow's own folder with a function's source. @throws ServingError CHECKPOINT_INVALID */
export function functionFile(given: string): string {
  if (/\.py$/.test(given))
    throw invalid(
      `${given} is Python, which does not run here: write its functions in TypeScript (handler.ts)`,
    );
  if (!/^[\w-][\w./-]*\.(?:ts|mts|mjs|js)$/.test(given) || given.split('/').includes('..'))
    throw invalid(`${given} is no .ts, .mts, .mjs or .js file of the workflow`);
  return given;
}
