/**
 * Keys of a model that is its own code.
 *
 * Source  option.entryPoint and option.trust_remote_code: LMI's names
 */
import { type KeyRow, modelKey } from './key-row.js';
import { boolean, integer, type ValueType } from './value-types.js';

const PYTHON =
  'custom Python handlers cannot run here; write it in TypeScript or JavaScript (model.ts), or let the checkpoint be served by the built-in one';

/** A file of the model's folder, perhaps with the name of what it exports. LMI's own entry points ask for what is built in here. */
function entryPoint(): ValueType<string | null> {
  return {
    expects:
      "a .ts, .mts, .mjs or .js file of the model's folder, perhaps with :NAME of what it exports, or djl_python.*",
    parse(given) {
      // DJLServing's own name for what is read where it lies.
      if (['', 'model.py'].includes(given) || given.startsWith('djl_python.')) return { value: null };
      return /^builtin:[\w-]+$|^[\w-][\w./-]*\.(?:ts|mts|mjs|js)(?::[\w$]+)?$/.test(given)
        ? { value: given }
        : { problem: true, sentence: PYTHON };
    },
  };
}

export const HANDLER_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.entryPoint',
    'entryPoint',
    entryPoint(),
    null,
    "a handler's source; default: model.ts, model.mts, model.mjs or model.js",
    { env: ['DJL_ENTRY_POINT'] },
  ),
  modelKey(
    'option.handler_memory_mb',
    'handlerMemoryMb',
    integer(64, 16_777_216, 'MiB'),
    1024,
    "memory of a handler's process at most; an allocation beyond it fails (ours)",
  ),
  modelKey(
    'option.trust_remote_code',
    'trustRemoteCode',
    boolean(),
    false,
    "the handler of a model that was fetched from elsewhere may run; no effect in the own file of such a model. Code of a language model's checkpoint is never run",
    { env: ['HF_MODEL_TRUST_REMOTE_CODE'] },
  ),
];
