/**
 * Own code as an operator: a function, or a class with a method `call`.
 *
 * In      code that names nothing but its parameters and what JavaScript and Node have anywhere; arguments of the constructor, files among them
 * Out     Op; its source is what is packed
 * Errors  ReferenceError when it runs: it names something of its surroundings; ServingError BAD_REQUEST: it is no function with a source
 *
 * The source is compiled anew at once, so that what is traced is what a pack will run.
 */
import { compileFunction } from 'node:vm';
import { ServingError } from '../proto/errors.js';
import { makeOp, type OpFunction, type OpKind } from './op.js';
import type { Value } from './pipeline-value.js';
import { ResourceFile } from './resource-file.js';
import type { Op } from './tracing.js';

export interface ScriptInstance {
  call(...args: never[]): unknown;
}
export type ScriptClass = new (...args: never[]) => ScriptInstance;
export type ScriptFunction = (...args: never[]) => unknown;

/** Stands for the n-th file in packed arguments. */
const FILE_MARK = '$file';

export const SCRIPT: OpKind = {
  name: 'script@1',
  isExact: true,
  make({ args, name, source }, files) {
    const code = compileFunction(`return (${source as string});`, [], {
      filename: `pipeline:${name as string}`,
    });
    const made = (code as () => unknown)();
    if (typeof made !== 'function') throw bad(`${name as string} is neither a function nor a class`);
    if (!isClass(made)) return made as OpFunction;
    const given = (args as readonly Value[]).map((one) => fileOf(one, files) ?? one);
    const instance = new (made as new (...args: unknown[]) => ScriptInstance)(...given);
    if (typeof instance.call !== 'function') throw bad(`class ${name as string} has no method call`);
    return (...values) => (instance.call as unknown as OpFunction)(...values);
  },
};

/** An operator of a function. */
export function script(given: ScriptFunction): Op;
/** What makes operators of a class, by the arguments of its constructor. */
export function script<C extends ScriptClass>(given: C): (...args: (Value | ResourceFile)[]) => Op;
export function script(
  given: ScriptFunction | ScriptClass,
): Op | ((...args: (Value | ResourceFile)[]) => Op) {
  if (typeof given !== 'function') throw bad('script() takes a function or a class');
  const source = sourceOf(given);
  if (!isClass(given)) return makeOp(SCRIPT, { source, name: given.name || 'function', args: [] });
  return (...args: (Value | ResourceFile)[]) => {
    const files: ResourceFile[] = [];
    const packed = args.map((one): Value => {
      if (!(one instanceof ResourceFile)) return one;
      files.push(one);
      return { [FILE_MARK]: files.length - 1 };
    });
    return makeOp(SCRIPT, { source, name: given.name, args: packed }, files);
  };
}

function sourceOf(given: ScriptFunction | ScriptClass): string {
  const source = Function.prototype.toString.call(given);
  if (/\{\s*\[native code\]\s*\}$/.test(source))
    throw bad(`${given.name} has no source: wrap it in a function of its own`);
  // A method is written without the word.
  return /^(?:async\s+)?[\w$]+\s*\(/.test(source) && !/^(?:async\s+)?function\b/.test(source)
    ? source.replace(/^(async\s+)?/, '$1function ')
    : source;
}

const isClass = (given: unknown): boolean => /^class\b/.test(Function.prototype.toString.call(given));

function fileOf(value: Value, files: readonly ResourceFile[]): ResourceFile | null {
  const index =
    typeof value === 'object' && value !== null ? (value as { [FILE_MARK]?: unknown })[FILE_MARK] : undefined;
  return typeof index === 'number' ? (files[index] ?? null) : null;
}

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
