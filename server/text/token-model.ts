/** The cutting of a piece of text into token ids, whatever the kind. */
export interface TokenModel {
  /** Ids of a piece, appended to `ids`. */
  encode(piece: string, ids: number[]): void;
  /** Token of each id; holes where an id has none. */
  readonly tokens: readonly (string | undefined)[];
}
