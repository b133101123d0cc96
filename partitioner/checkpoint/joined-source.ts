/**
 * Several checkpoints as one: a model, and what lies in folders beside it.
 *
 * In      TensorSources; their tensors have different names
 * Out     one TensorSource over all of them, which closes them
 * Errors  as the sources
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import {
  type CodedInfo,
  readCodes,
  requireTensor,
  type TensorInfo,
  type TensorSource,
} from './tensor-source.js';

/** A source whose tensors' names begin with `prefix`, and whose files lie in `folder` of the model. */
export function prefixedSource(source: TensorSource, prefix: string, folder: string): TensorSource {
  const renamed = <T>(map: ReadonlyMap<string, T> | undefined, change: (name: string, value: T) => T) =>
    new Map([...(map ?? [])].map(([name, value]) => [prefix + name, change(prefix + name, value)]));
  const own = (name: string): string => name.slice(prefix.length);
  return {
    tensors: renamed(source.tensors, (name, info) => ({ ...info, name })),
    unsupported: renamed(source.unsupported, (_, type) => type),
    files: source.files.map((file) => ({ ...file, path: path.posix.join(folder, file.path) })),
    readFloat32: (name, start, end, into) => source.readFloat32(own(name), start, end, into),
    readHalves: (name, start, end, into) => source.readHalves?.(own(name), start, end, into) ?? null,
    readBytes: (name, start, end) => source.readBytes(own(name), start, end),
    close: () => source.close(),
  };
}

export function joinedSource(sources: readonly TensorSource[]): TensorSource {
  const [only, ...others] = sources;
  if (only && others.length === 0) return only;
  const owners = new Map<string, TensorSource>();
  const tensors = new Map<string, TensorInfo>();
  const unsupported = new Map<string, string>();
  const coded = new Map<string, CodedInfo>();
  const needless = new Set<string>();
  for (const source of sources) {
    for (const [name, info] of source.tensors) {
      assert(!owners.has(name), `${name} is in two sources`);
      owners.set(name, source);
      tensors.set(name, info);
    }
    for (const [name, type] of source.unsupported ?? []) unsupported.set(name, type);
    for (const [name, info] of source.coded ?? []) coded.set(name, info);
    for (const name of source.needless ?? []) needless.add(name);
  }
  const ownerOf = (name: string): TensorSource => {
    const owner = owners.get(name);
    if (owner) return owner;
    // Throws, since nobody has it.
    requireTensor({ ...joined, tensors, unsupported }, name);
    return assert.fail(name);
  };
  const joined: TensorSource = {
    ...{ tensors, unsupported, coded, needless },
    readCodes: (name, start, end) => readCodes(ownerOf(name), name, start, end),
    files: sources.flatMap(({ files }) => files),
    readFloat32: (name, start, end, into) => ownerOf(name).readFloat32(name, start, end, into),
    readHalves: (name, start, end, into) => ownerOf(name).readHalves?.(name, start, end, into) ?? null,
    readBytes: (name, start, end) => ownerOf(name).readBytes(name, start, end),
    close: () => {
      for (const source of sources) source.close();
    },
  };
  return joined;
}
