/**
 * A model archive of TorchServe (.mar), unpacked: its manifest and model-config.yaml, as keys of the key table.
 *
 * In      a folder with MAR-INF/MANIFEST.json
 * Out     keys and their values, and the serialised file
 * Limits  MAX_CONFIG_FILE_BYTES of JSON, MAX_YAML_BYTES of YAML; its core schema, few aliases
 * Errors  Problems: Python handlers and .pt files, with what to do; a file that is named and not there
 * Source  torch-model-archiver's manifest; TorchServe's model-config.yaml
 */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { isObject } from '../../proto/is-object.js';
import { MAX_CONFIG_FILE_BYTES, MAX_YAML_BYTES } from '../../proto/limits.js';
import type { ForeignModel } from './foreign-layout.js';
import type { Problems } from './problems.js';

const MAX_ALIASES = 100;
/** TorchServe's own handlers, which are in no archive. */
const DEFAULT_HANDLERS = [
  ...['image_classifier', 'image_segmenter', 'object_detector', 'text_classifier'],
  ...['token_classifier', 'text_to_embedding'],
];
const EXPORT =
  'export it with torch.onnx.export(model, example, "model.onnx", dynamic_axes=…) and archive that';
const SOURCE = /^[\w-][\w./-]*\.(?:ts|mts|mjs|js)(?::[\w$]+)?$/;

/** model-config.yaml's. */
const YAML_KEYS: Readonly<Record<string, string>> = {
  minWorkers: 'minWorkers',
  maxWorkers: 'maxWorkers',
  batchSize: 'batch_size',
  maxBatchDelay: 'max_batch_delay',
  responseTimeout: 'option.step_timeout',
  startupTimeout: 'option.model_loading_timeout',
  jobQueueSize: 'job_queue_size',
};

export function torchServeModel(folder: string, where: string, problems: Problems): ForeignModel {
  const file = path.join(folder, 'MAR-INF', 'MANIFEST.json');
  const manifest = read(file, MAX_CONFIG_FILE_BYTES, where, problems, (text) => JSON.parse(text) as unknown);
  const model = isObject(manifest) && isObject(manifest.model) ? manifest.model : {};
  const serialised = typeof model.serializedFile === 'string' ? model.serializedFile : null;
  if (serialised !== null && !isFileIn(folder, serialised))
    problems.error(`${where}: the archive's serializedFile ${serialised} is not in it`);
  return {
    values: {
      ...engineKeys(model.handler, serialised, folder, where, problems),
      ...yamlKeys(folder, where, problems),
    },
    modelFile: serialised?.endsWith('.onnx') ? serialised : null,
  };
}

function engineKeys(
  handler: unknown,
  serialised: string | null,
  folder: string,
  where: string,
  problems: Problems,
): Record<string, string> {
  const name = typeof handler === 'string' && handler !== 'base_handler' ? handler : '';
  if (SOURCE.test(name)) return { engine: 'Handler', 'option.entryPoint': name };
  const python = `${name.split(':')[0]!.replace(/\.py$/, '')}.py`;
  if (/\.py\b/.test(name) || (name !== '' && existsSync(path.join(folder, path.basename(python))))) {
    problems.error(
      `${where}: the handler ${name} is Python, which cannot run here; write it in TypeScript (README of handlers) and archive it anew with --handler model.ts`,
    );
    return {};
  }
  if (DEFAULT_HANDLERS.includes(name)) {
    if (!serialised?.endsWith('.onnx'))
      problems.error(`${where}: the handler ${name} needs an .onnx file; ${EXPORT}`);
    return { engine: 'Handler', 'option.entryPoint': `builtin:${name}` };
  }
  if (name !== '') problems.error(`${where}: there is no handler ${name}`);
  if (serialised !== null && /\.(?:pt|pth|bin)$/.test(serialised)) {
    problems.error(`${where}: ${serialised} is PyTorch's, which does not run here; ${EXPORT}`);
  }
  return serialised?.endsWith('.onnx') ? { engine: 'OnnxRuntime' } : {};
}

function yamlKeys(folder: string, where: string, problems: Problems): Record<string, string> {
  const file = path.join(folder, 'model-config.yaml');
  if (!existsSync(file)) return {};
  // Few models have such a file, and the package costs a server 4 MB.
  const { parse } = createRequire(import.meta.url)('yaml') as typeof import('yaml');
  const config = read(file, MAX_YAML_BYTES, where, problems, (text): unknown =>
    parse(text, { schema: 'core', maxAliasCount: MAX_ALIASES }),
  );
  if (!isObject(config)) return {};
  return Object.fromEntries(
    Object.entries(YAML_KEYS).flatMap(([theirs, key]) => {
      const value = config[theirs];
      return typeof value === 'number' || typeof value === 'string' ? [[key, String(value)]] : [];
    }),
  );
}

function read(
  file: string,
  maxBytes: number,
  where: string,
  problems: Problems,
  parsed: (text: string) => unknown,
): unknown {
  const { size } = statSync(file);
  const name = path.basename(file);
  if (size > maxBytes) {
    problems.error(`${where}: ${name} has ${size} bytes, of at most ${maxBytes}`);
    return null;
  }
  try {
    return parsed(readFileSync(file, 'utf8'));
  } catch (error) {
    problems.error(`${where}: ${name} cannot be read: ${(error as Error).message.split('\n')[0]}`);
    return null;
  }
}

/** A name that stays in the folder. */
const isFileIn = (folder: string, name: string): boolean =>
  /^[\w-][\w./-]*$/.test(name) && !name.split('/').includes('..') && existsSync(path.join(folder, name));
