/**
 * What an explanation is asked by: parameters of the query, or of KServe's bodies, whatever else is in them.
 *
 * Limits  the ranges below
 * Errors  InvalidInput
 */
import { type Static, Type } from '@sinclair/typebox';
import {
  type Attribution,
  type MaskedScore,
  occlusion,
  seeded,
  shapley,
} from '../../../explanations/attribution.js';
import { compileValidator } from '../../../requests/validation.js';

export const METHODS = ['shapley', 'occlusion', 'integrated_gradients'] as const;

export const ExplainQuery = Type.Object({
  method: Type.Optional(
    Type.Union(
      METHODS.map((one) => Type.Literal(one)),
      { expects: METHODS.join(', ') },
    ),
  ),
  /** Which number: an index into the output of a model of tensors, or a key of a handler's answer. */
  target: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
  /** Names of tensors; a handler has none. */
  output: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
  input: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
  samples: Type.Optional(Type.Integer({ minimum: 1, maximum: 256, expects: 'a whole number from 1 to 256' })),
  steps: Type.Optional(Type.Integer({ minimum: 1, maximum: 256, expects: 'a whole number from 1 to 256' })),
  seed: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1, expects: 'a whole number below 2^31' }),
  ),
});
export type ExplainOptions = Static<typeof ExplainQuery>;

const validator = compileValidator(ExplainQuery);

/** Where they are fields of a body, beside others. @throws InvalidInput */
export function explainOptionsOf(parameters: unknown): ExplainOptions {
  const given = Object.entries((parameters ?? {}) as Record<string, unknown>).filter(([name]) =>
    Object.hasOwn(ExplainQuery.properties, name),
  );
  const checked = validator.check(Object.fromEntries(given));
  if ('error' in checked) throw checked.error;
  return checked.value;
}

const DEFAULT_SAMPLES = 16;
export const DEFAULT_STEPS = 20;

/** By leaving features out. */
export function explainMasked(
  count: number,
  score: MaskedScore,
  { method, samples = DEFAULT_SAMPLES, seed = 0 }: ExplainOptions,
): Promise<Attribution> {
  return method === 'occlusion' ? occlusion(count, score) : shapley(count, score, samples, seeded(seed));
}

/** What every explanation tells, beside its features. */
export const toldOf = (method: string, { base, contributions, delta, evaluations, score }: Attribution) => ({
  ...{ method, importances: contributions, score, base, delta, evaluations },
});
