/**
 * A model's folder as other servers lay it out, as keys of the key table: the weakest of the model's own.
 *
 * In      a folder with config.pbtxt (Triton), MAR-INF/MANIFEST.json (TorchServe) or model.spec.json (a pipeline pack)
 * Out     keys and values, and the model's file where the layout says it; null: the folder is neither
 * Errors  Problems
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { ForeignModel } from './foreign-layout.js';
import type { Problems } from './problems.js';
import { torchServeModel } from './torchserve-model.js';
import { tritonModel } from './triton-model.js';

export function foreignModel(folder: string, where: string, problems: Problems): ForeignModel | null {
  if (existsSync(path.join(folder, 'config.pbtxt'))) return tritonModel(folder, where, problems);
  if (existsSync(path.join(folder, 'MAR-INF', 'MANIFEST.json')))
    return torchServeModel(folder, where, problems);
  if (existsSync(path.join(folder, 'model.spec.json')))
    return { values: { engine: 'Handler', 'option.entryPoint': 'builtin:pipeline' }, modelFile: null };
  return null;
}
