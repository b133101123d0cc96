/** What the layout of another server's model says. Plain data. */
export interface ForeignModel {
  /** Keys of the key table. */
  values: Readonly<Record<string, string | null>>;
  /** Relative to the folder; null: found by the engine. */
  modelFile: string | null;
}
