/** What the scores of a classifier stand for: plain data, as its manifest has it. */
import type { ModelInfo } from '../../proto/manifest.js';

export type TextLabels = NonNullable<NonNullable<ModelInfo['embedding']>['labels']>;

/** Chances, or what else the activation makes of scores. */
export function activated(scores: readonly number[], activation: TextLabels['activation']): number[] {
  switch (activation) {
    case 'none':
      return [...scores];
    case 'sigmoid':
      return scores.map((score) => 1 / (1 + Math.exp(-score)));
    case 'softmax': {
      const most = scores.reduce((max, score) => Math.max(max, score), Number.NEGATIVE_INFINITY);
      const parts = scores.map((score) => Math.exp(score - most));
      const sum = parts.reduce((total, part) => total + part, 0);
      return parts.map((part) => part / sum);
    }
  }
}

/** Scores of each token: a vector of all of them in turn, cut. */
export function byToken(vector: readonly number[], { names }: TextLabels): number[][] {
  return Array.from({ length: vector.length / names.length }, (_, token) =>
    vector.slice(token * names.length, (token + 1) * names.length),
  );
}
