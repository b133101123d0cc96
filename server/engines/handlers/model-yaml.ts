/**
 * TorchServe's model-config.yaml of a model's folder.
 *
 * Out     its keys; empty where there is none
 * Limits  MAX_CONFIG_FILE_BYTES; data only: no tags, few aliases
 * Errors  Error naming the file
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { MAX_CONFIG_FILE_BYTES } from '../../../proto/limits.js';

const MAX_ALIASES = 100;

export function modelYamlOf(folder: string): Readonly<Record<string, unknown>> {
  const file = path.join(folder, 'model-config.yaml');
  if (!existsSync(file)) return {};
  const { size } = statSync(file);
  if (size > MAX_CONFIG_FILE_BYTES) {
    throw new Error(`model-config.yaml has ${size} bytes, of at most ${MAX_CONFIG_FILE_BYTES}`);
  }
  const value: unknown = parse(readFileSync(file, 'utf8'), { schema: 'core', maxAliasCount: MAX_ALIASES });
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value))
    throw new Error('model-config.yaml is no map of keys');
  return value as Record<string, unknown>;
}
