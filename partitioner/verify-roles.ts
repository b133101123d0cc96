/**
 * Checks that shards hold every weight of the model, each under its own role.
 *
 * In      manifest, ModelShape
 * Errors  ServingError SHARDS_INVALID naming the stored tensor: missing, unknown, or made of other weights than its role says
 */
import { ServingError } from '../proto/errors.js';
import type { Manifest } from '../proto/manifest.js';
import { layerName, type ModelShape } from './model-shape.js';

/** @throws ServingError SHARDS_INVALID */
export function checkRoles(manifest: Manifest, shape: ModelShape): void {
  const roles = expectedRoles(shape, manifest.weightFormat.dtype !== 'fp32');
  const stored = new Map(manifest.tensors.map((tensor) => [tensor.name, tensor.sources.join(', ')]));
  for (const name of new Set([...roles.keys(), ...stored.keys()])) {
    const expected = roles.get(name);
    const found = stored.get(name);
    if (found === expected) continue;
    throw new ServingError(
      'SHARDS_INVALID',
      expected === undefined
        ? `${name} has no place in ${shape.architecture}`
        : `${name} is made of ${found ?? 'nothing'}, not of ${expected}`,
    );
  }
}

/** Stored tensor → checkpoint tensors it is made of, in order. */
function expectedRoles(shape: ModelShape, isQuantised: boolean): Map<string, string> {
  const { names, biases } = shape;
  const roles = new Map<string, string>();
  const addLinear = (name: string, hasBias: boolean, ...stems: string[]): void => {
    const weights = stems.map((stem) => `${stem}.weight`).join(', ');
    roles.set(`${name}.weight`, weights);
    if (isQuantised) roles.set(`${name}.scales`, weights);
    if (hasBias) roles.set(`${name}.bias`, stems.map((stem) => `${stem}.bias`).join(', '));
  };
  roles.set('embedding', names.embedding);
  roles.set('rope.cos', '').set('rope.sin', '');
  roles.set('final-norm', names.finalNorm);
  addLinear('head', false, shape.tiedHead ? names.embedding.replace(/\.weight$/, '') : names.head);
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const at = (role: keyof typeof names.layer): string => layerName(names.layer[role], layer);
    const name = (role: string): string => `layer-${layer}.${role}`;
    roles.set(name('attention-norm'), at('attentionNorm'));
    roles.set(name('mlp-norm'), at('mlpNorm'));
    if (shape.qkNorm) {
      roles.set(name('query-norm'), at('queryNorm'));
      roles.set(name('key-norm'), at('keyNorm'));
    }
    addLinear(name('qkv'), biases.qkv, at('query'), at('key'), at('value'));
    addLinear(name('attention-out'), biases.attentionOut, at('attentionOut'));
    addLinear(name('gate-up'), biases.mlp, at('gate'), at('up'));
    addLinear(name('down'), biases.mlp, at('down'));
  }
  return roles;
}
