/**
 * tokenizer_config.json of a model, or what a GGUF file says in its place.
 *
 * In      a model's place: its folder, or its GGUF file (whose folder may hold files beside it)
 * Out     its keys; none: neither is there
 * Errors  CHECKPOINT_INVALID
 */
import path from 'node:path';
import { ggufOf, isGgufFile } from '../../proto/gguf-folder.js';
import { readGgufHeader } from '../../proto/gguf-header.js';
import { readJsonObject } from './checkpoint-text-file.js';
import { ggufTokenizerConfig } from './gguf-tokenizer.js';

/** The folder whose files say how a model's text is made. */
export const textFolder = (model: string): string => (isGgufFile(model) ? path.dirname(model) : model);

export function readTokenizerConfig(model: string): Record<string, unknown> {
  const own = readJsonObject(path.join(textFolder(model), 'tokenizer_config.json'));
  if (own !== null) return own;
  const gguf = ggufOf(model);
  return gguf === null ? {} : ggufTokenizerConfig(readGgufHeader(gguf));
}
