/**
 * A folder with DJLServing's model.py, as keys of the key table: read, never run.
 *
 * In      a folder with model.py
 * Out     keys and their values; the predictor's parameters and what it answers
 * Limits  MAX_CONFIG_FILE_BYTES
 * Errors  Problems: the line that is not read, and the model.ts to start from
 */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../../proto/limits.js';
import type { ForeignModel, Predictor } from '../foreign-layout.js';
import type { Problems } from '../problems.js';
import { pythonFacts } from './python-facts.js';
import { PythonProblem } from './python-syntax.js';
import type { PythonFacts } from './python-values.js';

export const PYTHON_FILE = 'model.py';

export function pythonModel(folder: string, where: string, problems: Problems): ForeignModel {
  const file = path.join(folder, PYTHON_FILE);
  try {
    const { size } = statSync(file);
    if (size > MAX_CONFIG_FILE_BYTES)
      throw new PythonProblem(1, `the file has ${size} bytes, of at most ${MAX_CONFIG_FILE_BYTES}`);
    const facts = pythonFacts(readFileSync(file, 'utf8'));
    for (const one of facts.policy)
      problems.warn(
        `${where}: ${PYTHON_FILE}: injection_policy (${one}) is not needed: a known family is split by its own rule, and injection_policy.json describes an unknown one`,
      );
    return { values: keysOf(facts), modelFile: null, predictor: predictorOf(facts) };
  } catch (error) {
    if (!(error instanceof PythonProblem)) throw error;
    problems.error(
      `${where}: ${PYTHON_FILE}:${error.line}: ${error.message}. No Python runs here; a ${PYTHON_FILE} is served as it stands where it only loads a model, splits it and asks its pipeline. ` +
        `Write model.ts in its place, and begin with\n\n${templateOf()}`,
    );
    return { values: {}, modelFile: null };
  }
}

const keysOf = ({ degree, dtype, maxTokens, modelId, revision }: PythonFacts): ForeignModel['values'] => ({
  'option.model_id': modelId,
  'option.revision': revision,
  'option.dtype': dtype,
  'option.tensor_parallel_degree': degree === null ? null : String(degree),
  'option.max_model_len': maxTokens === null ? null : String(maxTokens),
});

const predictorOf = ({ answer, parameters }: PythonFacts): Predictor => ({ parameters, answer });

const templateOf = (): string => `import { type Input, Output, pipeline } from 'shardserve/handler';

// The checkpoint: option.model_id, option.tensor_parallel_degree and option.dtype of serving.properties.
const predictor = await pipeline();

export async function handle(inputs: Input): Promise<Output | null> {
  if (inputs.isEmpty()) return null;
  const result = await predictor(inputs.getAsString(), { do_sample: true, max_new_tokens: 256 });
  return new Output().add(result);
}
`;
