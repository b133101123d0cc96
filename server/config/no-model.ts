/**
 * Why a folder is no model, for who has put it there.
 *
 * In      a folder
 * Out     what it holds of another format, and what to do with it; what a model is
 * Limits  one file of another format is named, the first
 */
import { readdirSync } from 'node:fs';

/** Names of files → what they are, and what helps. */
const FOREIGN: readonly (readonly [RegExp, string])[] = [
  [/\.safetensors$/, 'weights, but its config.json is missing'],
  [
    /\.(?:pt|pth|ckpt|pkl)$|^pytorch_model.*\.bin$/,
    "PyTorch's: export it to ONNX, or save it as safetensors beside its config.json",
  ],
  [/\.(?:h5|keras|pb|tflite)$/, "TensorFlow's: convert it to ONNX"],
];

export const WHAT_A_MODEL_IS =
  'A model is a folder with config.json and *.safetensors, a .gguf or an .onnx file, a handler (model.ts, .mts, .mjs, .js), serving.properties ' +
  "with option.model_id, another server's layout (config.pbtxt, MAR-INF/MANIFEST.json, model.spec.json), or one archive of such a folder";

/** '' where there is nothing of another format. */
export function foreignFile(folder: string): string {
  for (const name of readdirSync(folder).sort()) {
    const [, what] = FOREIGN.find(([pattern]) => pattern.test(name)) ?? [];
    if (what !== undefined) return `it holds ${name}, which is ${what}`;
  }
  return '';
}
