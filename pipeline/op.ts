/**
 * An operator: what a traced function calls, and what a pack keeps of it.
 *
 * In      the name of its kind, attributes (values), files
 * Out     a callable: within a trace it adds a node; `run` does the work anywhere
 * Errors  ServingError BAD_REQUEST: called outside of a trace; what the operator throws
 */
import assert from 'node:assert/strict';
import { ServingError } from '../proto/errors.js';
import type { Value } from './pipeline-value.js';
import type { ResourceFile } from './resource-file.js';
import { type Chance, chanceOf } from './run-mode.js';
import { type Op, recordNode, type Traced } from './tracing.js';

export type OpFunction = (...args: Value[]) => Value | Promise<Value>;
/** An operator that leaves something to chance while a model is trained. */
export type ChanceFunction = (chance: Chance, ...args: Value[]) => Value | Promise<Value>;
export type Attributes = Readonly<Record<string, Value>>;

/** What operators of one kind are made from. */
export interface OpKind {
  /** With its version: another answer is another name. */
  name: string;
  /** Its answers are the same to the bit on every machine. */
  isExact: boolean;
  make(attributes: Attributes, files: readonly ResourceFile[]): OpFunction | Promise<OpFunction>;
  /** In place of `make`. */
  makeChance?(attributes: Attributes): ChanceFunction;
}

export interface OpState {
  readonly kind: OpKind;
  readonly attributes: Attributes;
  readonly files: readonly ResourceFile[];
  readonly ready: () => Promise<ChanceFunction>;
}

const states = new WeakMap<Op, OpState>();

export function makeOp(kind: OpKind, attributes: Attributes = {}, files: readonly ResourceFile[] = []): Op {
  let made: Promise<ChanceFunction> | null = null;
  const ready = (): Promise<ChanceFunction> => {
    made ??= Promise.resolve().then(async () => {
      if (kind.makeChance !== undefined) return kind.makeChance(attributes);
      const work = await kind.make(attributes, files);
      return (_chance: Chance, ...args: Value[]) => work(...args);
    });
    return made;
  };
  const record = (...args: (Traced | Value)[]): Traced => {
    const traced = recordNode(op, args);
    if (traced === null) {
      throw new ServingError(
        'BAD_REQUEST',
        `Operator ${kind.name} is called with no traced value: use run() outside of trace()`,
      );
    }
    return traced;
  };
  const op: Op = Object.assign(record, {
    run: async (...args: Value[]) => (await ready())(chanceOf({}, 0), ...args),
  });
  states.set(op, { kind, attributes, files, ready });
  return op;
}

export function stateOf(op: Op): OpState {
  const state = states.get(op);
  assert(state, 'every operator has its state');
  return state;
}
