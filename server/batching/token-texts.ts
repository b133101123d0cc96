/** Text of tokens, as sequences want it: ids in, text out as it becomes whole. */

/** What a sequence needs of a tokenizer. */
export interface TokenTexts {
  tokenText(id: number): string;
  isSpecial(id: number): boolean;
  /** Absent: those of its text. */
  tokenBytes?(id: number): Uint8Array | null;
  /** @param options.context ids before the first one: it keeps its leading space */
  detokenizer(options: { skipSpecialTokens: boolean; context: readonly number[] }): {
    push(id: number): string;
    flush(): string;
  };
}
