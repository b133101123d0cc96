/**
 * What a model.py of DJLServing says: which checkpoint, how it is split and held, and how a request is asked of it. Read by following
 * `handle` with stand-ins for its values; nothing of it is run.
 *
 * In      the text of a model.py: transformers' from_pretrained and pipeline, DeepSpeed's init_inference, djl_python's Input and Output
 * Out     PythonFacts
 * Limits  MAX_CALLS functions inside each other; no loops, classes, handling of exceptions, arithmetic
 * Errors  PythonProblem: the line that is anything else
 * Source  the calls' own documentation (transformers, DeepSpeed, DJLServing): names and meaning of their arguments
 */
import { callArguments, type KnownCall, knownCall, parameterName } from './python-calls.js';
import { type Expression, PythonProblem, pythonStatements, type Statement } from './python-syntax.js';
import { constantOf, type PythonFacts, setting, type Value } from './python-values.js';

const MAX_CALLS = 16;
const BUILT_IN = ['int', 'str', 'float', 'bool', 'print'];

type FunctionStatement = Extract<Statement, { kind: 'function' }>;
type Scope = Map<string, Value>;

/** @throws PythonProblem */
export function pythonFacts(source: string): PythonFacts {
  return new Reading().of(pythonStatements(source));
}

class Reading {
  readonly #facts: PythonFacts = {
    ...{ modelId: null, revision: null, dtype: null, degree: null, maxTokens: null, policy: [] },
    ...{ parameters: {}, answer: 'list' },
  };
  readonly #module: Scope = new Map(BUILT_IN.map((name) => [name, { kind: 'path', path: name }]));
  readonly #functions = new Map<string, FunctionStatement>();
  #hasModel = false;
  #hasAsked = false;

  of(statements: readonly Statement[]): PythonFacts {
    this.#run(statements, this.#module, 0);
    const handle = this.#functions.get('handle');
    if (handle === undefined) throw new PythonProblem(1, 'there is no function handle(inputs)');
    const scope: Scope = new Map([[handle.parameters[0] ?? 'inputs', { kind: 'inputs' }]]);
    const answer = this.#run(handle.body, scope, 0);
    if (!this.#hasModel || !this.#hasAsked)
      throw new PythonProblem(handle.line, 'handle asks no pipeline(…) of a model');
    if (answer?.kind !== 'output' || answer.of === null)
      throw new PythonProblem(
        handle.line,
        'handle does not return Output().add(…) of what the pipeline gave',
      );
    this.#facts.answer = answer.of;
    return this.#facts;
  }

  /** @returns what the function returns; null: it has come to its end */
  #run(statements: readonly Statement[], scope: Scope, depth: number): Value | null {
    for (const statement of statements) {
      const { line } = statement;
      switch (statement.kind) {
        case 'nothing':
          break;
        case 'import':
          for (const [bound, path] of statement.names) scope.set(bound, { kind: 'path', path });
          break;
        case 'function':
          this.#functions.set(statement.name, statement);
          break;
        case 'assign':
          scope.set(statement.target, this.#value(statement.value, scope, depth));
          break;
        case 'expression':
          // Texts that stand alone explain.
          if (statement.value.kind !== 'constant') this.#value(statement.value, scope, depth);
          break;
        case 'if': {
          const taken = this.#truth(statement.condition, scope, depth) ? statement.body : statement.otherwise;
          const returned = this.#run(taken, scope, depth);
          if (returned !== null) return returned;
          break;
        }
        case 'return':
          return statement.value === null
            ? { kind: 'constant', value: null }
            : this.#value(statement.value, scope, depth);
        default:
          throw new PythonProblem(line, `${firstLine(statement.text)} is not read`);
      }
    }
    return null;
  }

  #truth(condition: Expression, scope: Scope, depth: number): boolean {
    if (condition.kind === 'not') return !this.#truth(condition.of, scope, depth);
    if (condition.kind === 'is') {
      const [left, right] = [condition.left, condition.right].map((one) => this.#value(one, scope, depth));
      if (left!.kind === 'constant' && right!.kind === 'constant')
        return (left!.value === right!.value) !== condition.negated;
      // What was made is not None.
      if (right!.kind === 'constant' && right!.value === null && left!.kind !== 'setting')
        return condition.negated;
      throw new PythonProblem(condition.line, 'what this condition is, only a request says');
    }
    const value = this.#value(condition, scope, depth);
    if (value.kind === 'constant') return Boolean(value.value);
    if (value.kind === 'setting' || value.kind === 'request')
      throw new PythonProblem(condition.line, 'what this condition is, only a request or the server says');
    return true;
  }

  #value(expression: Expression, scope: Scope, depth: number): Value {
    const { line } = expression;
    const inner = (one: Expression): Value => this.#value(one, scope, depth);
    switch (expression.kind) {
      case 'constant':
        return { kind: 'constant', value: expression.value };
      case 'name': {
        const { name } = expression;
        const known = scope.get(name) ?? this.#module.get(name);
        if (known !== undefined) return known;
        if (this.#functions.has(name)) return { kind: 'function', name };
        throw new PythonProblem(line, `${name} is not known`);
      }
      case 'list':
        return { kind: 'list', items: expression.items.map(inner) };
      case 'mapping':
        return {
          kind: 'mapping',
          entries: expression.entries.map(([key, value]): [Value, Value] => [inner(key), inner(value)]),
        };
      case 'member':
        return this.#member(inner(expression.of), expression.name, line);
      case 'item':
        return this.#item(inner(expression.of), inner(expression.key), line);
      case 'call':
        return this.#call(expression, scope, depth);
      case 'not':
      case 'is':
        return { kind: 'constant', value: this.#truth(expression, scope, depth) };
      default:
        throw new PythonProblem(line, `${firstLine(expression.text)} is not read`);
    }
  }

  #member(of: Value, name: string, line: number): Value {
    if (of.kind === 'path') return { kind: 'path', path: `${of.path}.${name}` };
    if (of.kind === 'model' && name === 'dtype') return { kind: 'dtype-of-model' };
    if (of.kind === 'model' && name === 'module') return of;
    if (['inputs', 'request', 'properties', 'model', 'output', 'mapping'].includes(of.kind))
      return { kind: 'method', of, name };
    throw new PythonProblem(line, `.${name} is not known of this`);
  }

  #item(of: Value, key: Value, line: number): Value {
    const name = key.kind === 'constant' ? key.value : null;
    if (of.kind === 'properties' && typeof name === 'string') return setting(name, null);
    if (of.kind === 'path' && of.path === 'os.environ' && typeof name === 'string')
      return setting(name, null);
    if (of.kind === 'request') return this.#field(of, name, line);
    if (of.kind === 'generated' && of.as === 'list' && name === 0) return { kind: 'generated', as: 'object' };
    if (of.kind === 'generated' && of.as === 'object' && name === 'generated_text')
      return { kind: 'generated', as: 'text' };
    throw new PythonProblem(line, `[${String(name)}] is not known of this`);
  }

  /** A body's that is JSON. */
  #field(of: Extract<Value, { kind: 'request' }>, name: unknown, line: number): Value {
    if (of.part === 'json' && (name === 'inputs' || name === 'parameters'))
      return { kind: 'request', part: name };
    throw new PythonProblem(line, `of a request's JSON only "inputs" and "parameters" are read`);
  }

  #call(call: Extract<Expression, { kind: 'call' }>, scope: Scope, depth: number): Value {
    const { line } = call;
    const inner = (one: Expression): Value => this.#value(one, scope, depth);
    const of = inner(call.of);
    const args = call.args.map(inner);
    const named = new Map(call.named.map(([name, one]) => [name, inner(one)]));
    const spread = call.spread.map(inner);
    if (of.kind === 'predictor') return this.#ask(args, named, spread, line);
    for (const mapping of spread) {
      if (mapping.kind !== 'mapping') throw new PythonProblem(line, '** of this is not read');
      for (const [key, value] of mapping.entries) named.set(String(constantOf(key, line)), value);
    }
    if (of.kind === 'function') return this.#callOwn(of.name, args, named, line, depth);
    if (of.kind === 'method') return this.#method(of.of, of.name, args, named, line);
    if (of.kind !== 'path') throw new PythonProblem(line, 'this cannot be called');
    const known = knownCall(of.path);
    if (known === null) throw new PythonProblem(line, `${of.path}(…) is not read`);
    return this.#known(known, of.path, args, named, line);
  }

  #callOwn(
    name: string,
    args: readonly Value[],
    named: ReadonlyMap<string, Value>,
    line: number,
    depth: number,
  ): Value {
    const own = this.#functions.get(name)!;
    if (depth >= MAX_CALLS) throw new PythonProblem(line, `${name} calls deeper than ${MAX_CALLS} functions`);
    const scope: Scope = new Map(named);
    own.parameters.forEach((parameter, at) => {
      const given = args[at];
      if (given !== undefined) scope.set(parameter, given);
    });
    return this.#run(own.body, scope, depth + 1) ?? { kind: 'constant', value: null };
  }

  #known(
    call: KnownCall,
    path: string,
    args: readonly Value[],
    named: ReadonlyMap<string, Value>,
    line: number,
  ): Value {
    switch (call) {
      case 'ignored':
        return { kind: 'constant', value: null };
      case 'logger':
        return { kind: 'path', path: 'logging' };
      case 'same':
        return args[0] ?? { kind: 'constant', value: null };
      case 'number': {
        const [given] = args;
        if (given?.kind !== 'constant') return given ?? { kind: 'constant', value: 0 };
        return { kind: 'constant', value: Number(given.value) };
      }
      case 'environment': {
        const otherwise = args[1] === undefined ? null : constantOf(args[1], line);
        return setting(String(constantOf(args[0]!, line)), otherwise);
      }
      case 'tokenizer':
        return { kind: 'tokenizer' };
      case 'output':
        return { kind: 'output', of: null };
      case 'model':
      case 'engine':
      case 'predictor': {
        callArguments(call, path, args, named, this.#facts, line);
        if (call === 'model') this.#hasModel = true;
        return call === 'predictor' ? { kind: 'predictor' } : { kind: 'model' };
      }
    }
  }

  #method(
    of: Value,
    name: string,
    args: readonly Value[],
    named: ReadonlyMap<string, Value>,
    line: number,
  ): Value {
    const key = args[0]?.kind === 'constant' ? args[0].value : null;
    const otherwise = args[1]?.kind === 'constant' ? args[1].value : null;
    switch (of.kind) {
      case 'inputs':
        if (name === 'is_empty') return { kind: 'constant', value: false };
        if (name === 'get_as_string') return { kind: 'request', part: 'inputs' };
        if (name === 'get_as_json') return { kind: 'request', part: 'json' };
        if (name === 'get_properties') return { kind: 'properties' };
        if (name === 'get_property') return setting(String(key), otherwise);
        break;
      case 'properties':
        if (name === 'get') return setting(String(key), otherwise);
        break;
      case 'request':
        if (name === 'get' || name === 'pop') return this.#field(of, key, line);
        break;
      case 'model':
        if (name === 'half') this.#facts.dtype = 'fp16';
        if (['half', 'eval', 'to', 'cuda'].includes(name)) return of;
        break;
      case 'output': {
        const [given] = args;
        if (name === 'add_property') return of;
        if (['add', 'add_as_json'].includes(name) && named.size === 0 && given?.kind === 'generated')
          return { kind: 'output', of: given.as };
        throw new PythonProblem(line, 'what is answered is not what the pipeline gave');
      }
      default:
    }
    throw new PythonProblem(line, `.${name}(…) is not read`);
  }

  /** predictor(data, do_sample=…, …) */
  #ask(
    args: readonly Value[],
    named: ReadonlyMap<string, Value>,
    spread: readonly Value[],
    line: number,
  ): Value {
    const [data, ...others] = args;
    if (data?.kind !== 'request' || data.part !== 'inputs' || others.length > 0)
      throw new PythonProblem(line, 'what the pipeline is asked is not the text of the request');
    for (const one of spread) {
      const isRequests = one.kind === 'request' && one.part === 'parameters';
      if (one.kind !== 'mapping' && !isRequests) throw new PythonProblem(line, '** of this is not read');
    }
    const entries: [string, Value][] = spread.flatMap((one) =>
      one.kind === 'mapping'
        ? one.entries.map(([key, value]): [string, Value] => [String(constantOf(key, line)), value])
        : [],
    );
    for (const [name, value] of [...entries, ...named]) {
      const constant = constantOf(value, line);
      if (constant === null) continue;
      const key = parameterName(name, constant, line);
      if (key !== null) this.#facts.parameters[key] = constant;
    }
    this.#hasAsked = true;
    return { kind: 'generated', as: 'list' };
  }
}

const firstLine = (text: string): string => {
  const line = text.split('\n')[0]!.trim();
  return line.length > 60 ? `${line.slice(0, 60)}…` : line;
};
