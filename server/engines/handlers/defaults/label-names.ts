/**
 * index_to_name.json: what the classes of a model are called.
 *
 * In      a folder; {"0": "cat"}, {"0": ["n02123045", "tabby"]} or {"object_type_names": {…}}
 * Out     the name of a class: its number where nothing says it
 * Limits  MAX_CONFIG_FILE_BYTES
 * Errors  Error: no JSON, or too long
 * Source  TorchServe's default handlers
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { MAX_CONFIG_FILE_BYTES } from '../../../../proto/limits.js';

export function labelNames(folder: string): (index: number) => string {
  const file = path.join(folder, 'index_to_name.json');
  if (!existsSync(file)) return String;
  const { size } = statSync(file);
  if (size > MAX_CONFIG_FILE_BYTES)
    throw new Error(`index_to_name.json has ${size} bytes, of at most ${MAX_CONFIG_FILE_BYTES}`);
  const json = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  const names = (json.object_type_names ?? json) as Record<string, unknown>;
  return (index) => {
    const name = names[String(index)];
    const last: unknown = Array.isArray(name) ? name.at(-1) : name;
    return typeof last === 'string' ? last : String(index);
  };
}
