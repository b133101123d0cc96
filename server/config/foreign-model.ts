/**
 * A model's folder as other servers lay it out, as keys of the key table: the weakest of the model's own.
 *
 * In      a folder, and the version that is wanted of it (null: any), with config.pbtxt (Triton), MAR-INF/MANIFEST.json (TorchServe), model.spec.json (a pipeline pack) or model.py (DJLServing)
 * Out     keys and values, and the model's file where the layout says it; null: the folder is neither
 * Errors  Problems
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { HANDLER_FILES } from '../../proto/model-files.js';
import type { ForeignModel } from './foreign-layout.js';
import type { Problems } from './problems.js';
import { PYTHON_FILE, pythonModel } from './python/python-model.js';
import { torchServeModel } from './torchserve-model.js';
import { tritonModel } from './triton-model.js';

export function foreignModel(
  folder: string,
  version: string | null,
  where: string,
  problems: Problems,
): ForeignModel | null {
  if (existsSync(path.join(folder, 'config.pbtxt'))) return tritonModel(folder, version, where, problems);
  if (existsSync(path.join(folder, 'MAR-INF', 'MANIFEST.json')))
    return torchServeModel(folder, where, problems);
  if (existsSync(path.join(folder, 'model.spec.json')))
    return { values: { engine: 'Handler', 'option.entryPoint': 'builtin:pipeline' }, modelFile: null };
  const isHandler = HANDLER_FILES.some((name) => existsSync(path.join(folder, name)));
  if (!isHandler && existsSync(path.join(folder, PYTHON_FILE))) return pythonModel(folder, where, problems);
  return null;
}
