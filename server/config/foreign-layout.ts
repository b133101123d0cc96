/** What the layout of another server's model says. Plain data. */
export interface ForeignModel {
  /** Keys of the key table. */
  values: Readonly<Record<string, string | null>>;
  /** Relative to the folder; null: found by the engine. */
  modelFile: string | null;
  /** How requests are asked of a language model; absent: as they say. */
  predictor?: Predictor;
}

/** What a model.py asks of its pipeline. */
export interface Predictor {
  /** LMI's parameters where a request has none of that meaning. */
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
  /** To a plain text: a list of an object with the whole text, that object, or the text. */
  readonly answer: 'list' | 'object' | 'text';
}
