/** Which engine serves a model, and the keys of those that are not for language models. Source: names of DJLServing and LMI. */
import { engineWord } from './engine-names.js';
import { HANDLER_KEYS } from './handler-keys.js';
import { type KeyRow, modelKey } from './key-row.js';
import { ONNX_KEYS } from './onnx-keys.js';

export const ENGINE_KEYS: readonly KeyRow[] = [
  modelKey(
    'engine',
    'engineName',
    engineWord,
    null,
    "what serves the model: Rubikon, DeepSpeed, MPI and Python mean the one for language models, split over shard workers; Handler: the folder's own TypeScript or JavaScript; default: by the folder's files (model.ts, .mts, .mjs, .js: Handler, else config.json: a language model, else *.onnx: OnnxRuntime)",
    { env: ['OPTION_ENGINE'] },
  ),
  ...ONNX_KEYS,
  ...HANDLER_KEYS,
];
