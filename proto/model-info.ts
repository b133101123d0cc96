/**
 * What of the manifest the server must know of the model; nothing here is needed to run it.
 *
 * Limits  labels, lengths of names
 */
import { type Static, Type } from '@sinclair/typebox';

const count = Type.Integer({ minimum: 0 });
const positive = Type.Integer({ minimum: 1 });

const labelActivation = Type.Union([Type.Literal('softmax'), Type.Literal('sigmoid'), Type.Literal('none')]);

/** What the server must know of the model; nothing here is needed to run it. */
export const modelInfo = Type.Object({
  architecture: Type.String(),
  modelType: Type.String(),
  vocabSize: positive,
  hiddenSize: positive,
  numLayers: positive,
  /** Positions the model was made for: prompt and new tokens together. */
  contextLength: positive,
  /** Ends of text from generation_config.json, else config.json; may be empty. */
  endIds: Type.Array(count),
  beginId: Type.Union([count, Type.Null()]),
  /** generation_config.json's sampling defaults, as written there (unknown keys dropped). */
  generationDefaults: Type.Record(Type.String(), Type.Union([Type.Number(), Type.Boolean()])),
  parameters: count,
  /** A model of texts' vectors; absent: it generates text. */
  embedding: Type.Optional(
    Type.Object({
      /** Length of a vector. */
      dimensions: positive,
      /** Tokens that the model was tuned for, at most contextLength: a text is cut there, or refused. */
      textTokens: positive,
      /** Vectors have length 1. */
      normalised: Type.Boolean(),
      /** Texts are put into lower case before they are tokenised. */
      lowerCase: Type.Boolean(),
      /** Stands before every text. */
      prefix: Type.String({ maxLength: 10_000 }),
      /** Lengths to which a vector may be cut; empty: any; absent: none. */
      shorterDimensions: Type.Optional(Type.Array(positive, { maxItems: 1000 })),
      /** Labels of a classifier: what the vector's numbers are the scores of. Absent: the vector is what is wanted. */
      labels: Type.Optional(
        Type.Object({
          names: Type.Array(Type.String({ maxLength: 1000 }), { minItems: 1, maxItems: 100_000 }),
          /** A vector each token, one behind the other; else one for the text. */
          perToken: Type.Boolean(),
          /** What makes chances of scores. */
          activation: labelActivation,
          /** What makes a number of the score of two texts, of a single label. */
          pairActivation: labelActivation,
        }),
      ),
    }),
  ),
});

export type ModelInfo = Static<typeof modelInfo>;
