/** What values of a model.py are taken for, and what is learned from it. Plain data. */
import { type Constant, PythonProblem } from './python-syntax.js';

export interface PythonFacts {
  /** null: the configuration's, or the folder itself. */
  modelId: string | null;
  revision: string | null;
  dtype: 'fp32' | 'fp16' | 'bf16' | 'int8' | null;
  /** null: the configuration's. */
  degree: number | null;
  /** Tokens of prompt and answer together; null: not said. */
  maxTokens: number | null;
  /** Of DeepSpeed's injection_policy, `Block: a, b`: a block's linears whose sums are joined. */
  policy: string[];
  /** The predictor's call's. */
  parameters: Record<string, string | number | boolean>;
  /** What is answered: the pipeline's list of an object, that object, or its text. */
  answer: 'list' | 'object' | 'text';
}

export type Value =
  | { kind: 'constant'; value: Constant }
  | { kind: 'list'; items: Value[] }
  | { kind: 'mapping'; entries: [key: Value, value: Value][] }
  /** Something imported, by its whole name. */
  | { kind: 'path'; path: string }
  | { kind: 'function'; name: string }
  | { kind: 'method'; of: Value; name: string }
  /** One of the environment or of serving.properties. */
  | { kind: 'setting'; name: string; otherwise: Constant }
  | { kind: 'inputs' }
  | { kind: 'properties' }
  | { kind: 'request'; part: 'json' | 'inputs' | 'parameters' }
  | { kind: 'model' }
  | { kind: 'dtype-of-model' }
  | { kind: 'tokenizer' }
  | { kind: 'predictor' }
  | { kind: 'generated'; as: PythonFacts['answer'] }
  | { kind: 'output'; of: PythonFacts['answer'] | null };

export const setting = (name: string, otherwise: Constant): Value => ({ kind: 'setting', name, otherwise });

/** @throws PythonProblem */
export function constantOf(value: Value, line: number): Constant {
  if (value.kind === 'constant') return value.value;
  throw new PythonProblem(line, 'this value is not known before a request comes');
}
