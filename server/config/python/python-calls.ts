/**
 * Calls of other packages that a model.py may hold, and what their arguments say.
 *
 * In      the whole name of what is called, its arguments
 * Out     facts
 * Errors  PythonProblem: an argument that would change an answer and is not served
 * Source  transformers' from_pretrained and pipeline, DeepSpeed's init_inference: names and meaning of their arguments
 */
import { PythonProblem } from './python-syntax.js';
import { constantOf, type PythonFacts, type Value } from './python-values.js';

export type KnownCall =
  | 'environment'
  | 'number'
  | 'same'
  | 'ignored'
  | 'logger'
  | 'tokenizer'
  | 'output'
  | 'model'
  | 'engine'
  | 'predictor';

const CALLS: readonly (readonly [RegExp, KnownCall])[] = [
  [/^os\.(?:getenv|environ\.get)$/, 'environment'],
  [/^int$|^float$/, 'number'],
  [/^str$|^bool$/, 'same'],
  [/^logging\.getLogger$/, 'logger'],
  [
    /^print$|^logging\.\w+$|^deepspeed\.init_distributed$|^torch\.cuda\.set_device$|^torch\.device$/,
    'ignored',
  ],
  [/^transformers\.\w*Tokenizer(?:Fast)?\.from_pretrained$/, 'tokenizer'],
  [/^transformers\.\w*(?:ForCausalLM|LMHeadModel)\.from_pretrained$/, 'model'],
  [/^deepspeed\.init_inference$/, 'engine'],
  [/^transformers\.pipeline$/, 'predictor'],
  [/^djl_python(?:\.\w+)*\.Output$/, 'output'],
];

/** null: none of them. */
export const knownCall = (path: string): KnownCall | null =>
  CALLS.find(([pattern]) => pattern.test(path))?.[1] ?? null;

const DTYPES: Readonly<Record<string, PythonFacts['dtype']>> = {
  ...{ 'torch.float32': 'fp32', 'torch.float': 'fp32', float32: 'fp32', fp32: 'fp32' },
  ...{ 'torch.float16': 'fp16', 'torch.half': 'fp16', float16: 'fp16', fp16: 'fp16', half: 'fp16' },
  ...{ 'torch.bfloat16': 'bf16', bfloat16: 'bf16', bf16: 'bf16' },
  ...{ 'torch.int8': 'int8', int8: 'int8' },
};
/** The number of ranks, however it is called. */
const DEGREE_SETTING = /^(?:option\.)?(?:tensor_parallel_degree|world_size)$/i;
const MODEL_SETTING = /^(?:option\.)?(?:hf_)?model_(?:id|dir|name)$/i;
/** They say where and how fast, not what. */
const WITHOUT_EFFECT = [
  ...['device', 'device_map', 'low_cpu_mem_usage', 'use_cache', 'cache_dir', 'use_fast', 'return_dict'],
  ...['replace_method', 'replace_with_kernel_inject', 'enable_cuda_graph', 'local_rank', 'config'],
];

/** Names of transformers and DeepSpeed, as LMI has them. */
const PARAMETERS: Readonly<Record<string, string>> = {
  ...{ do_sample: 'do_sample', temperature: 'temperature', top_k: 'top_k', top_p: 'top_p', seed: 'seed' },
  ...{ min_tokens: 'min_new_tokens', min_new_tokens: 'min_new_tokens' },
  ...{ max_tokens: 'max_new_tokens', max_new_tokens: 'max_new_tokens' },
  ...{ repetition_penalty: 'repetition_penalty', typical_p: 'typical_p', min_p: 'min_p' },
  return_full_text: 'return_full_text',
};
/** They ask for nothing that is not done anyway. */
const USUAL: Readonly<Record<string, unknown>> = {
  ...{ num_beams: 1, num_return_sequences: 1, use_cache: true, early_stopping: false },
};

/** A parameter of the predictor's call under LMI's name; null: it changes nothing. @throws PythonProblem */
export function parameterName(name: string, value: unknown, line: number): string | null {
  const known = PARAMETERS[name];
  if (known !== undefined) return known;
  if (Object.hasOwn(USUAL, name) && USUAL[name] === value) return null;
  throw new PythonProblem(line, `the pipeline's ${name}=${String(value)} is not served`);
}

type Facts = PythonFacts;
type Read = (value: Value, facts: Facts, line: number) => void;

const readDtype: Read = (value, facts, line) => {
  if (value.kind === 'dtype-of-model') return;
  const name =
    value.kind === 'path' ? value.path : value.kind === 'constant' ? String(value.value) : 'this value';
  if (name === 'auto' || name === 'null') return;
  const dtype = DTYPES[name];
  if (dtype === undefined) throw new PythonProblem(line, `a model of dtype ${name} is not served`);
  facts.dtype = dtype;
};
const readDegree: Read = (value, facts, line) => {
  if (value.kind === 'setting' && DEGREE_SETTING.test(value.name)) return;
  const degree = Number(constantOf(value, line));
  if (!Number.isInteger(degree) || degree < 1)
    throw new PythonProblem(line, `the model is to be split in ${degree}`);
  facts.degree = degree;
};
const readModelId: Read = (value, facts, line) => {
  if (value.kind === 'setting' && MODEL_SETTING.test(value.name)) return;
  const id = constantOf(value, line);
  if (typeof id !== 'string' || id === '') throw new PythonProblem(line, 'the model has no name');
  facts.modelId = id;
};
const readParallel: Read = (value, facts, line) => {
  if (value.kind !== 'mapping') throw new PythonProblem(line, 'tensor_parallel must be a mapping');
  for (const [key, one] of value.entries) {
    const name = String(constantOf(key, line));
    if (name === 'tp_size') readDegree(one, facts, line);
    else if (name !== 'enabled') throw new PythonProblem(line, `tensor_parallel's ${name} is not served`);
  }
};
const readPolicy: Read = (value, facts, line) => {
  if (value.kind !== 'mapping') throw new PythonProblem(line, 'injection_policy must be a mapping');
  for (const [block, linears] of value.entries) {
    const names = (linears.kind === 'list' ? linears.items : [linears]).map((one) => constantOf(one, line));
    if (block.kind !== 'path' || names.some((one) => typeof one !== 'string'))
      throw new PythonProblem(line, 'injection_policy must map classes of blocks to names of linears');
    facts.policy.push(`${block.path.split('.').at(-1)}: ${names.join(', ')}`);
  }
};
const readMaxTokens: Read = (value, facts, line) => {
  facts.maxTokens = Number(constantOf(value, line));
};
const readNothing: Read = () => {};
/** What is served is what one of these values asks for. */
const only =
  (name: string, ...accepted: readonly unknown[]): Read =>
  (value, _facts, line) => {
    const given = constantOf(value, line);
    if (!accepted.includes(given))
      throw new PythonProblem(line, `${name}=${String(given)} is not served, only ${accepted.join(' or ')}`);
  };
const mustBe =
  (name: string, ...kinds: readonly Value['kind'][]): Read =>
  (value, _facts, line) => {
    if (!kinds.includes(value.kind)) throw new PythonProblem(line, `${name} is not what was made here`);
  };

const READERS: Readonly<Record<'model' | 'engine' | 'predictor', Readonly<Record<string, Read>>>> = {
  model: {
    pretrained_model_name_or_path: readModelId,
    revision: (value, facts, line) => {
      facts.revision = String(constantOf(value, line));
    },
    torch_dtype: readDtype,
    dtype: readDtype,
    trust_remote_code: only('trust_remote_code', false),
  },
  engine: {
    model: mustBe('model', 'model'),
    mp_size: readDegree,
    tensor_parallel: readParallel,
    dtype: readDtype,
    injection_policy: readPolicy,
    max_tokens: readMaxTokens,
    max_out_tokens: readMaxTokens,
  },
  predictor: {
    task: only('task', 'text-generation'),
    model: mustBe('model', 'model'),
    tokenizer: mustBe('tokenizer', 'tokenizer'),
    torch_dtype: readDtype,
  },
};
/** By their places. */
const PLACES: Readonly<Record<keyof typeof READERS, readonly string[]>> = {
  model: ['pretrained_model_name_or_path'],
  engine: ['model'],
  predictor: ['task', 'model', 'config', 'tokenizer'],
};

/** @throws PythonProblem */
export function callArguments(
  call: keyof typeof READERS,
  path: string,
  args: readonly Value[],
  named: ReadonlyMap<string, Value>,
  facts: PythonFacts,
  line: number,
): void {
  const given = new Map(named);
  for (const [at, value] of args.entries()) {
    const name = PLACES[call][at];
    if (name === undefined)
      throw new PythonProblem(line, `${path} is given ${args.length} values without names`);
    given.set(name, value);
  }
  for (const [name, value] of given) {
    const read = READERS[call][name] ?? (WITHOUT_EFFECT.includes(name) ? readNothing : null);
    if (read === null) throw new PythonProblem(line, `${name}=… of ${path} is not served`);
    read(value, facts, line);
  }
}
