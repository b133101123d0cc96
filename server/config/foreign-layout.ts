/** What the layout of another server's model says. Plain data. */
export interface ForeignModel {
  /** Keys of the key table. */
  values: Readonly<Record<string, string | null>>;
  /** Relative to the folder; null: found by the engine. */
  modelFile: string | null;
  /** How requests are asked of a language model; absent: as they say. */
  predictor?: Predictor;
  /** What Triton's config.pbtxt says beyond keys; absent: it is no such folder. */
  repository?: RepositoryModel;
}

/** A model of Triton's repository. */
export interface RepositoryModel {
  /** It takes requests that name no version: of several only the latest does. */
  readonly isLatest: boolean;
  /** Names of tensors that the model must have. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Batches of so many rows run without waiting for more. */
  readonly preferredRows: readonly number[];
  /** Shapes by input that it is run with before it takes requests; none: one of whatever varies. */
  readonly warmUps: readonly WarmUp[];
}

/** One input has so much. */
export const MAX_WARM_UP_BYTES = 256 * 1024 * 1024;

export interface WarmUp {
  readonly runs: number;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

/** What a model.py asks of its pipeline. */
export interface Predictor {
  /** LMI's parameters where a request has none of that meaning. */
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
  /** To a plain text: a list of an object with the whole text, that object, or the text. */
  readonly answer: 'list' | 'object' | 'text';
}
