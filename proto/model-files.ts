/**
 * Files that make a folder a model: what finds models and what configures them must agree on it.
 */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { hasGguf } from './gguf-folder.js';

/** A handler's source, the one that is taken first. */
export const HANDLER_FILES = ['model.ts', 'model.mts', 'model.mjs', 'model.js'] as const;

/** Any of them: the folder is a workflow. TorchServe's (.war), and DJLServing's. */
export const WORKFLOW_FILES = [
  'WAR-INF/MANIFEST.json',
  'workflow.json',
  'workflow.yml',
  'workflow.yaml',
] as const;

/** Any of them: the folder is a model. */
export const MODEL_FILES = [
  ...['config.json', 'serving.properties', 'model.onnx', ...HANDLER_FILES, 'model.py'],
  // Triton's, TorchServe's, and a pipeline pack.
  ...['config.pbtxt', 'MAR-INF/MANIFEST.json', 'model.spec.json'],
] as const;

/** Any .onnx file, whatever it is called. */
export function hasOnnx(folder: string): boolean {
  try {
    return readdirSync(folder).some((name) => name.endsWith('.onnx'));
  } catch {
    // Not there, or no folder.
    return false;
  }
}

/** A folder that one of them makes a model, or a GGUF or ONNX file. */
export const isModelFolder = (folder: string): boolean =>
  MODEL_FILES.some((name) => existsSync(path.join(folder, name))) || hasGguf(folder) || hasOnnx(folder);

/** A language model's weights and what is known of them: in Hugging Face's files, or in GGUF. */
export const hasCheckpoint = (folder: string): boolean =>
  existsSync(path.join(folder, 'config.json')) || hasGguf(folder);
