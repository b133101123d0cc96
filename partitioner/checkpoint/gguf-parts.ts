/**
 * The headers of a GGUF model, which may lie in several files (llama.cpp's llama-gguf-split): the first says what the model is, each has tensors.
 *
 * In      the model's file, or its first part
 * Out     the parts' headers, and the first one with the tensors of all
 * Errors  ServingError CHECKPOINT_INVALID naming the file: a part that is missing, is another part, or has a tensor that another has; tensors that
 *         are missing
 * Source  llama.cpp llama-gguf-split (split.no, split.count, split.tensors.count)
 */
import { ggufPartFiles } from '../../proto/gguf-folder.js';
import { type GgufHeader, type GgufTensor, ggufName, readGgufHeader } from '../../proto/gguf-header.js';
import { checkpointError } from './json-file.js';

export interface GgufParts {
  /** Places of tensors are those in their part. */
  whole: GgufHeader;
  parts: readonly GgufHeader[];
}

/** @throws ServingError CHECKPOINT_INVALID */
export function readGgufParts(file: string): GgufParts {
  const parts = ggufPartFiles(file).map((part) => readGgufHeader(part));
  const tensors = new Map<string, GgufTensor>();
  for (const [index, part] of parts.entries()) {
    checkPart(part, index, parts.length);
    for (const [name, tensor] of part.tensors) {
      if (tensors.has(name))
        throw checkpointError(part.path, `tensor ${ggufName(name)} is in an earlier part too`);
      tensors.set(name, tensor);
    }
  }
  const [first] = parts;
  if (first === undefined) throw checkpointError(file, 'has no parts');
  const told = first.metadata.get('split.tensors.count');
  if (parts.length > 1 && told !== undefined && told !== tensors.size)
    throw checkpointError(first.path, `says that there are ${told} tensors, its parts have ${tensors.size}`);
  return { whole: { ...first, tensors }, parts };
}

function checkPart({ metadata, path }: GgufHeader, index: number, count: number): void {
  const told = metadata.get('split.count') ?? 0;
  if (count === 1 && (told === 0 || told === 1)) return;
  if (told !== count)
    throw checkpointError(path, `says that it is one of ${told} parts, its name says ${count}`);
  if (metadata.get('split.no') === index) return;
  throw checkpointError(
    path,
    `says that it is part ${Number(metadata.get('split.no')) + 1}, its name says ${index + 1}`,
  );
}
