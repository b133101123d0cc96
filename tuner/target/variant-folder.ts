/**
 * A configuration as folders that the server can load: each model with a serving.properties of its own, its files as they are.
 *
 * In      models, their fixed properties, settings by name (MODEL.KEY, server.KEY)
 * Out     load_models for the environment; the properties of each model as text
 * Limits  a language model stays where it is (option.model_id); an ONNX model's files are linked, or copied across file systems
 * Errors  file errors as they come
 */
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { Settings, SettingValue } from '../space/space.js';

export interface VariantModel {
  name: string;
  folder: string;
  properties: Readonly<Record<string, SettingValue>>;
}

const FILE = 'serving.properties';
/** One name in a space for what two keys say. */
const WORKERS = 'workers';

/** @param into an empty folder of its own for each configuration. @returns what `load_models` says */
export function writeVariant(models: readonly VariantModel[], settings: Settings, into: string): string {
  return models
    .map((model) => {
      const folder = path.join(into, model.name);
      mkdirSync(folder, { recursive: true });
      const properties = { ...model.properties, ...modelSettings(settings, model.name) };
      const isText = existsSync(path.join(model.folder, 'config.json'));
      const here = isText ? { 'option.model_id': model.folder, ...properties } : properties;
      if (!isText) linkFiles(model.folder, folder);
      writeFileSync(path.join(folder, FILE), `${ownProperties(model.folder, here)}${propertiesText(here)}`);
      return `${model.name}=${folder}`;
    })
    .join(',');
}

/** The settings of one model under the keys of serving.properties. */
export function modelSettings(settings: Settings, model: string): Record<string, SettingValue> {
  const own = Object.entries(settings).flatMap(([name, value]): [string, SettingValue][] =>
    name.startsWith(`${model}.`) ? [[name.slice(model.length + 1), value]] : [],
  );
  return Object.fromEntries(
    own.flatMap(([key, value]): [string, SettingValue][] =>
      key === WORKERS
        ? [
            ['minWorkers', value],
            ['maxWorkers', value],
          ]
        : [[key, value]],
    ),
  );
}

/** Settings of the server as its environment: SERVING_KEY, as every key of it has. */
export function serverEnvironment(settings: Settings): Record<string, string> {
  return Object.fromEntries(
    Object.entries(settings).flatMap(([name, value]) =>
      name.startsWith('server.')
        ? [[`SERVING_${name.slice('server.'.length).toUpperCase()}`, String(value)]]
        : [],
    ),
  );
}

export function propertiesText(properties: Readonly<Record<string, SettingValue>>): string {
  return Object.entries(properties)
    .map(([key, value]) => `${key}=${String(value)}\n`)
    .join('');
}

/** What the model's own file says, less what is set here: a key stands once. */
function ownProperties(folder: string, set: Readonly<Record<string, unknown>>): string {
  const file = path.join(folder, FILE);
  if (!existsSync(file)) return '';
  const lines = readFileSync(file, 'utf8').split(/\r?\n/);
  const kept = lines.filter((line) => !Object.hasOwn(set, (line.split(/[=:]/)[0] ?? '').trim()));
  const text = kept.join('\n').trimEnd();
  return text === '' ? '' : `${text}\n`;
}

function linkFiles(from: string, into: string): void {
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(into, entry.name)];
    if (entry.name === FILE || existsSync(target)) continue;
    if (entry.isDirectory()) {
      mkdirSync(target, { recursive: true });
      linkFiles(source, target);
      continue;
    }
    try {
      linkSync(source, target);
    } catch {
      copyFileSync(source, target);
    }
  }
}
