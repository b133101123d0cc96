/**
 * What is made of a text's last hidden states, as data: a vector, or scores.
 *
 * In      architectures/ makes an EmbeddingShape of sentence-transformers' files or of a classifier's head
 * Out     plan and graph/vector-segments.ts branch on it
 * Errors  none: plain data
 */

import type { Pooling } from '../../proto/manifest.js';

/** What a dense layer's outputs go through. */
export type VectorActivation = 'none' | 'tanh' | 'relu' | 'sigmoid' | 'gelu' | 'gelu-tanh' | 'silu';

/** A step from the pooled hidden states to the vector that the client gets. */
export type VectorStep =
  | { kind: 'normalise' }
  | {
      kind: 'dense';
      /** Its tensors; of one in a folder of its own, behind the folder's name. */
      stem: string;
      /** Folder of its weights in the model folder; null: they are the checkpoint's. */
      folder: string | null;
      inputs: number;
      outputs: number;
      hasBias: boolean;
      activation: VectorActivation;
    }
  | { kind: 'layer-norm'; stem: string; size: number; epsilon: number; hasBias: boolean };

/** What the numbers of a classifier's vector are the scores of. */
export interface LabelsShape {
  names: readonly string[];
  /** A vector each token, one behind the other; else one for the text. */
  perToken: boolean;
  /** What makes chances of scores. */
  activation: LabelActivation;
  /** What makes a number of the score of two texts, of a single label. */
  pairActivation: LabelActivation;
}

export type LabelActivation = 'softmax' | 'sigmoid' | 'none';

/** From hidden states to one vector a text. */
export interface EmbeddingShape {
  /** Their results side by side; none: every token by itself. */
  poolings: readonly Pooling[];
  steps: readonly VectorStep[];
  /** Length of the vector. */
  dimensions: number;
  /** Tokens of a text that the model was tuned for; at most the context length. */
  textTokens: number;
  /** Texts are put into lower case before they are tokenised. */
  lowerCase: boolean;
  /** Stands before every text. */
  prefix: string;
  /** Lengths to which a vector may be cut; empty: any; null: none. */
  shorterDimensions: readonly number[] | null;
  /** Labels of a classifier; null: the vector is what is wanted. */
  labels: LabelsShape | null;
}

/** Columns of what the first step of the vector reads. */
export const pooledColumns = ({ poolings }: EmbeddingShape, hiddenSize: number): number =>
  Math.max(1, poolings.length) * hiddenSize;

/** Whether the vector has length 1. */
export const isNormalised = ({ steps }: EmbeddingShape): boolean => steps.at(-1)?.kind === 'normalise';
