/**
 * What becomes of every architecture that transformers knows (test/golden/architectures.json.gz): a family, the automatic policy,
 * or a refusal.
 *
 * Out     one outcome a name, in order
 * How     a tiny config.json and the names and shapes of its tensors, where the list has them; else the name alone
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { findFamily } from '../../partitioner/architectures/registry.js';
import { CheckpointConfig } from '../../partitioner/checkpoint/config-file.js';
import type { TensorSource } from '../../partitioner/checkpoint/tensor-source.js';
import { recogniseModel } from '../../partitioner/policies/recognise-model.js';
import { repositoryRoot } from './repository-root.js';

export interface ArchitectureOutcome {
  name: string;
  kind: 'family' | 'automatic' | 'refused';
  /** A refusal's. */
  message: string;
}

interface Listed {
  madeWith: { transformers: string };
  names: Record<'causal' | 'masked' | 'imageToText', string[]>;
  models: Record<string, { config: Record<string, unknown>; tensors: Record<string, number[]> }>;
}

export function listedArchitectures(): Listed {
  const file = path.join(repositoryRoot, 'test/golden/architectures.json.gz');
  return JSON.parse(gunzipSync(readFileSync(file)).toString()) as Listed;
}

export async function architectureOutcomes(): Promise<ArchitectureOutcome[]> {
  const { models, names } = listedArchitectures();
  const every = [...new Set(Object.values(names).flat())].sort();
  return Promise.all(every.map((name) => outcomeOf(name, models[name])));
}

async function outcomeOf(name: string, model: Listed['models'][string] | undefined) {
  const raw = model?.config ?? { architectures: [name] };
  const config = new CheckpointConfig(raw, null, 'folder');
  // A tiny config of defaults may be one that the family refuses for another reason.
  if ((await findFamily(config)) !== null) return { name, kind: 'family' as const, message: '' };
  try {
    const { report } = await recogniseModel(config, () => (model ? headersOf(model.tensors) : null));
    return { name, kind: report.kind as 'automatic', message: report.assumed.join('; ') };
  } catch (error) {
    return { name, kind: 'refused' as const, message: (error as Error).message };
  }
}

/** A checkpoint of which nothing but names and shapes is read. */
function headersOf(tensors: Record<string, number[]>): TensorSource {
  const unread = (): never => {
    throw new Error('no weights are read');
  };
  return {
    tensors: new Map(
      Object.entries(tensors).map(([name, shape]) => [name, { name, shape, type: 'float32' as const }]),
    ),
    files: [],
    readFloat32: unread,
    readBytes: unread,
    close: () => {},
  };
}
