/**
 * Checks that shards hold every weight of the model, each under its own role.
 *
 * In      manifest, ModelShape
 * Errors  ServingError SHARDS_INVALID naming the stored tensor: missing, unknown, or made of other weights than its role says
 */
import { ServingError } from '../../proto/errors.js';
import type { Manifest } from '../../proto/manifest.js';
import { hasExperts, type ModelShape } from '../plan/model-shape.js';
import { ACTIVATION_PARTS, activationRole, roleTensors, vectorRole } from '../plan/role-tensors.js';
import type { CodedTensors } from '../quantise/coded-format.js';
import { codesOf } from '../quantise/weight-format.js';

/** @throws ServingError SHARDS_INVALID */
export function checkRoles(manifest: Manifest, shape: ModelShape, coded: CodedTensors): void {
  const { blockSize, dtype, layout, symmetric } = manifest.weightFormat;
  const isCoded = (sources: readonly string[]): boolean =>
    dtype === 'int4' && codesOf(coded, sources) === 'own';
  const hasZeroPoints = (sources: readonly string[]): boolean => !symmetric || isCoded(sources);
  const pieces = manifest.tensors.find(({ piece }) => piece !== undefined)?.piece?.of ?? 1;
  const roles = expectedRoles(shape, {
    hasScales: layout === 'blocks' && blockSize !== null,
    hasZeroPoints,
    pieces,
  });
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

/** What is stored of a linear. */
interface StoredKinds {
  /** Beside the weight, not in it. */
  hasScales: boolean;
  hasZeroPoints: (sources: readonly string[]) => boolean;
  /** A row-parallel one's. */
  pieces: number;
}

/** Stored tensor → role tensors it is made of, in order. */
function expectedRoles(
  shape: ModelShape,
  { hasScales, hasZeroPoints, pieces }: StoredKinds,
): Map<string, string> {
  const tensors = new Map(roleTensors(shape).map(({ role, name }) => [role, name]));
  const roles = new Map<string, string>();
  const addLinear = (linear: string, ...parts: string[]): void => {
    const isCut = pieces > 1 && /\.(attention-out|down)$/.test(linear);
    const stored = isCut
      ? Array.from({ length: pieces }, (_, index) => `${linear}.piece-${index}`)
      : [linear];
    const names = (kind: 'weight' | 'bias'): string[] =>
      parts.flatMap((part) => tensors.get(`${part}.${kind}`) ?? []);
    const sources = (kind: 'weight' | 'bias'): string => names(kind).join(', ');
    stored.forEach((name, index) => {
      roles.set(`${name}.weight`, sources('weight'));
      if (hasScales) roles.set(`${name}.scales`, sources('weight'));
      if (hasScales && hasZeroPoints(names('weight'))) roles.set(`${name}.zero-points`, sources('weight'));
      if (index === 0 && sources('bias') !== '') roles.set(`${name}.bias`, sources('bias'));
    });
  };
  const addCopy = (name: string): void => {
    const weight = tensors.get(`${name}.weight`);
    if (weight === undefined) return;
    roles.set(name, weight);
    const bias = tensors.get(`${name}.bias`);
    if (bias !== undefined) roles.set(`${name}.bias`, bias);
  };
  const dense = shape.embedding?.steps.map((_, index) => vectorRole(index)) ?? [];
  const whole = [
    'embedding',
    'embedding-in',
    'embedding-out',
    'position-table',
    'token-type',
    'relative-bias',
    'distances',
    'distances-norm',
  ];
  for (const name of [...whole, 'embedding-norm', 'final-norm', ...dense]) addCopy(name);
  for (const [index] of shape.ropes.entries()) {
    const table = index === 0 ? 'rope' : `rope-${index}`;
    roles.set(`${table}.cos`, '').set(`${table}.sin`, '');
  }
  if (shape.names.head !== null) addLinear('head', 'head');
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const name = (role: string): string => `layer-${layer}.${role}`;
    const downs = ['query-down', 'key-value-down'];
    for (const norm of ['attention', 'query', 'key', ...downs, 'attention-post', 'mlp', 'mlp-post']) {
      addCopy(name(`${norm}-norm`));
    }
    addCopy(name('sinks'));
    for (const part of Object.keys(ACTIVATION_PARTS)) addCopy(activationRole(layer, part));
    if (shape.latent === null) {
      addLinear(name('qkv'), name('query'), name('key'), name('value'));
    } else {
      addLinear(name('latents'), ...downs.map(name).filter((down) => tensors.has(`${down}.weight`)));
      addLinear(name('query'), name('query'));
      for (const up of ['key-up', 'value-up'].map(name)) addLinear(up, up);
    }
    addLinear(name('attention-out'), name('attention-out'));
    const mlps = hasExperts(shape, layer)
      ? Array.from({ length: shape.experts?.count ?? 0 }, (_, expert) => name(`expert-${expert}`))
      : [`layer-${layer}`];
    if (hasExperts(shape, layer)) {
      for (const router of ['router', 'router-choice', 'shared-router']) addCopy(name(router));
      if (shape.experts?.sharedFfnSize != null) mlps.push(name('shared'));
    }
    for (const mlp of mlps) {
      if (tensors.has(`${mlp}.gate.weight`)) addLinear(`${mlp}.gate-up`, `${mlp}.gate`, `${mlp}.up`);
      else addLinear(`${mlp}.up`, `${mlp}.up`);
      addLinear(`${mlp}.down`, `${mlp}.down`);
    }
  }
  return roles;
}
