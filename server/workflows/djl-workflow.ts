/**
 * DJLServing's workflow.json (or .yml, .yaml).
 *
 * In      `models`: a URL or an object each; `functions`: FILE:NAME of the workflow's folder, in place of a Java class; `workflow`: for each
 *         variable a call `[function or model, argument, …]`, calls inside each other; `in` is the request, `out` the answer
 * Out     WorkflowSpec; a call inside a call is a node of its own
 * Errors  CHECKPOINT_INVALID in DJLServing's words where it has some; its functions of adapters and of functions
 * Source  DJLServing's workflows; ours beside them: `timeoutMillis` and `retryAttempts` of a model's object
 */
import { isObject } from '../../proto/is-object.js';
import {
  DEFAULT_TIMEOUT_MS,
  functionFile,
  invalid,
  type Source,
  type SpecNode,
  type WorkflowSpec,
} from './workflow-spec.js';

const MODEL_KEYS: Readonly<Record<string, string>> = {
  ...{ batchSize: 'batch_size', maxBatchDelayMillis: 'max_batch_delay', queueSize: 'job_queue_size' },
  ...{
    minWorkers: 'minWorkers',
    maxWorkers: 'maxWorkers',
    engine: 'engine',
    maxIdleSeconds: 'max_idle_time',
  },
};
const MAX_DEPTH = 16;
const REFUSED = ['ensemble', 'functionsApply', 'adapter'];
const IDENTITY = ['identity', 'IdentityWF'];

type Fields = Readonly<Record<string, unknown>>;
const objectOf = (value: unknown): Fields => (isObject(value) ? value : {});

/** @throws ServingError */
export function djlWorkflow(given: unknown): WorkflowSpec {
  if (!isObject(given)) throw invalid('the file is no object');
  const models = Object.entries(objectOf(given.models)).map(([name, value]) => modelOf(name, value));
  const functions = Object.entries(objectOf(given.functions)).map(([name, value]) => {
    const [file = '', exported = name] = String(value).split(':');
    if (/^[a-z]\w*(?:\.\w+)+$/i.test(file) && !/\.(?:ts|mts|mjs|js|py)$/.test(file))
      throw invalid(
        `function ${name} is a Java class, ${file}: write it in TypeScript and name FILE.ts:NAME`,
      );
    return { name, file: functionFile(file), exported };
  });
  const nodes = new Nodes(objectOf(given.workflow), new Map(models.map((one) => [one.name, one.fields])));
  const out = nodes.variable('out');
  return {
    name: typeof given.name === 'string' ? given.name : null,
    version: typeof given.version === 'string' ? given.version : null,
    signature: null,
    models: models.map(({ fields: _, ...model }) => model),
    ...{ functions, nodes: nodes.all, outputs: [{ name: 'out', from: out }] },
  };
}

function modelOf(name: string, value: unknown) {
  const fields: Fields = typeof value === 'string' ? { modelUrl: value } : objectOf(value);
  const url = fields.modelUrl ?? fields.modelUrls;
  if (typeof url !== 'string') throw invalid(`model ${name} has no modelUrl`);
  const options = Object.entries({ ...objectOf(fields.arguments), ...objectOf(fields.options) }).map(
    ([key, one]) => [key.startsWith('option.') ? key : `option.${key}`, String(one)],
  );
  const keys = Object.entries(MODEL_KEYS).flatMap(([theirs, ours]) =>
    fields[theirs] === undefined ? [] : [[ours, String(fields[theirs])]],
  );
  return { name, url, keys: Object.fromEntries([...options, ...keys]), mayBeThere: false, fields };
}

class Nodes {
  readonly all: SpecNode[] = [];
  readonly #calls: Fields;
  readonly #models: ReadonlyMap<string, Fields>;
  readonly #made = new Map<string, Source>();
  readonly #open = new Set<string>();

  constructor(calls: Fields, models: ReadonlyMap<string, Fields>) {
    this.#calls = calls;
    this.#models = models;
  }

  /** Each is computed once. @throws ServingError */
  variable(name: string): Source {
    if (name === 'in') return { node: null, tensor: null };
    const made = this.#made.get(name);
    if (made !== undefined) return made;
    if (this.#open.has(name)) throw invalid(`Your workflow contains a cycle with target: ${name}`);
    const call = this.#calls[name];
    if (call === undefined) throw invalid(`Expected to find variable but it is not defined: ${name}`);
    this.#open.add(name);
    const source = this.#call(name, call, 0);
    this.#open.delete(name);
    this.#made.set(name, source);
    return source;
  }

  #call(name: string, call: unknown, depth: number): Source {
    if (typeof call === 'string') return this.variable(call);
    if (depth > MAX_DEPTH) throw invalid(`calls of ${name} lie deeper than ${MAX_DEPTH}`);
    if (!Array.isArray(call) || typeof call[0] !== 'string')
      throw invalid(`${name} is no list of a function or model and its arguments`);
    const [uses, ...args] = call as [string, ...unknown[]];
    if (REFUSED.includes(uses)) throw invalid(`the function ${uses} of ${name} is not served`);
    const sources = args.map((one, at) => this.#call(`${name}.${at + 1}`, one, depth + 1));
    if (IDENTITY.includes(uses)) {
      if (sources.length !== 1) throw invalid(`${name}: identity takes one argument`);
      return sources[0]!;
    }
    const fields = this.#models.get(uses) ?? {};
    this.all.push({
      ...{ name, uses },
      inputs: sources.map((from, at) => {
        const shown = typeof args[at] === 'string' ? args[at] : `${name}.${at + 1}`;
        return { as: sources.length === 1 ? '' : shown, from };
      }),
      timeoutMs: Number(fields.timeoutMillis ?? DEFAULT_TIMEOUT_MS),
      attempts: 1 + Number(fields.retryAttempts ?? 0),
    });
    return { node: name, tensor: null };
  }
}
