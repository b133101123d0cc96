/**
 * config.json files of public models, to measure speed and plan at their size with random weights and without their checkpoint.
 *
 * Out     folders of partitioner/shapes/
 * Errors  ServingError CONFIG_INVALID listing the names there are
 * Source  the models' published config.json: sizes only
 */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ServingError } from '../proto/errors.js';

/** Beside the sources, two levels above dist/partitioner/. */
const SHAPES_FOLDER = fileURLToPath(new URL('../../partitioner/shapes', import.meta.url));

export function shapeNames(): string[] {
  return readdirSync(SHAPES_FOLDER).sort();
}

/**
 * @returns a folder with that model's config.json
 * @throws ServingError CONFIG_INVALID
 */
export function shapeFolder(name: string): string {
  const folder = path.join(SHAPES_FOLDER, path.basename(name));
  if (path.basename(name) === name && existsSync(path.join(folder, 'config.json'))) return folder;
  throw new ServingError(
    'CONFIG_INVALID',
    `no shape is called ${name}; there are ${shapeNames().join(', ')}`,
  );
}
