/**
 * What a traced function is given in place of values: it may hand them to operators and return them, nothing else.
 *
 * In      calls of operators while trace() runs the function
 * Out     nodes, in the order of their calls
 * Limits  MAX_NODES
 * Errors  ServingError BAD_REQUEST: a value is looked into, or comes from another trace
 */
import { ServingError } from '../proto/errors.js';
import type { Value } from './pipeline-value.js';

const MAX_NODES = 10_000;

/** Where an argument comes from. */
export type Source = { feed: string } | { node: number } | { value: Value };

export interface Node {
  op: Op;
  args: readonly Source[];
}

declare const tracedBrand: unique symbol;
/** Stands for a value that is not there yet. */
export interface Traced {
  readonly [tracedBrand]: true;
}

/** What a traced function calls. */
export interface Op {
  (...args: (Traced | Value)[]): Traced;
  /** Outside of a trace. */
  run(...args: Value[]): Promise<Value>;
}

interface Origin {
  trace: Trace;
  source: Source;
}

const origins = new WeakMap<object, Origin>();

export class Trace {
  readonly nodes: Node[] = [];

  feed(name: string): Traced {
    return tracedValue(this, { feed: name });
  }

  add(op: Op, args: readonly Source[]): Traced {
    if (this.nodes.length >= MAX_NODES)
      throw new ServingError('BAD_REQUEST', `A pipeline may call operators ${MAX_NODES} times at most`);
    this.nodes.push({ op, args });
    return tracedValue(this, { node: this.nodes.length - 1 });
  }

  /** null: no traced value. @throws ServingError: one of another trace */
  sourceOf(value: unknown): Source | null {
    const origin = typeof value === 'object' && value !== null ? origins.get(value) : undefined;
    if (origin === undefined) return null;
    if (origin.trace !== this)
      throw new ServingError('BAD_REQUEST', 'A traced value of another trace is used');
    return origin.source;
  }
}

/** null: none of the arguments is traced. */
export function recordNode(op: Op, args: readonly (Traced | Value)[]): Traced | null {
  const trace = args
    .map((one) => (typeof one === 'object' && one !== null ? origins.get(one)?.trace : undefined))
    .find((one) => one !== undefined);
  if (trace === undefined) return null;
  return trace.add(
    op,
    args.map((one) => trace.sourceOf(one) ?? { value: one as Value }),
  );
}

function tracedValue(trace: Trace, source: Source): Traced {
  const proxy = new Proxy(Object.freeze({}), {
    get(_target, property) {
      // Whoever awaits it asks whether it is a promise.
      if (property === 'then' || typeof property === 'symbol') return undefined;
      throw new ServingError(
        'BAD_REQUEST',
        `.${property} of a traced value: it is not there yet; look into values inside an operator (script)`,
      );
    },
  });
  origins.set(proxy, { trace, source });
  return proxy as unknown as Traced;
}
