/**
 * A model's shape as a device with memory of its own computes it: what its attention operator asks for, and what it can't do.
 *
 * In      ModelShape
 * Out     the same with heads of the cache in the operator's unit
 * Errors  ServingError CONFIG_INVALID: a model that is served on the CPU alone
 * Pure
 */
import { ServingError } from '../../proto/errors.js';
import type { Manifest } from '../../proto/manifest.js';
import type { ModelShape } from './model-shape.js';

/** GroupQueryAttention takes heads of a multiple of it. */
const HEAD_UNIT = 8;

/** @throws ServingError CONFIG_INVALID */
export function remoteShape(shape: ModelShape, deviceClass: Manifest['deviceClass']): ModelShape {
  const refuse = (what: string): never => {
    throw new ServingError(
      'CONFIG_INVALID',
      `device ${deviceClass}: ${shape.modelType} has ${what}, which is computed on the CPU alone: take option.device=cpu`,
    );
  };
  if (shape.attention === 'bidirectional') refuse('attention in both directions');
  if (shape.alibiSlopes !== null) refuse('ALiBi');
  if (shape.latent !== null) refuse('multi-head latent attention');
  if (shape.pieces.some((piece) => piece !== null)) refuse('attention within pieces of a text');
  // The provider's operator takes the attribute and leaves scores as they are.
  if (shape.attentionSoftCap !== null) refuse('soft-capped attention scores');
  if (shape.names.layer.sinks !== null) refuse('attention sinks');
  return { ...shape, cacheUnit: HEAD_UNIT };
}
