/**
 * Files that make a folder a model: what finds models and what configures them must agree on it.
 */

/** A handler's source, the one that is taken first. */
export const HANDLER_FILES = ['model.ts', 'model.mts', 'model.mjs', 'model.js'] as const;

/** Any of them: the folder is a model. */
export const MODEL_FILES = [
  ...['config.json', 'serving.properties', 'model.onnx', ...HANDLER_FILES],
  // Triton's, TorchServe's, and a pipeline pack.
  ...['config.pbtxt', 'MAR-INF/MANIFEST.json', 'model.spec.json'],
] as const;
