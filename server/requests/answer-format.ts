/** How a model writes what it thinks and calls: names of parsers (text/answer-parts/answer-parsers.ts), as vLLM has them. */
export const CALL_PARSERS = [
  ...(['hermes', 'qwen', 'llama3_json', 'llama4_json', 'mistral'] as const),
  ...(['pythonic', 'llama4_pythonic', 'openai'] as const),
] as const;
export type CallParserName = (typeof CALL_PARSERS)[number];

export const REASONING_PARSERS = [
  ...(['deepseek_r1', 'qwen3', 'mistral'] as const),
  ...(['granite', 'seed_oss', 'openai_gptoss'] as const),
] as const;
export type ReasoningParserName = (typeof REASONING_PARSERS)[number];

export interface AnswerFormat {
  /** null: its calls are text. */
  calls: CallParserName | null;
  /** null: it does not think, or that is text. */
  reasoning: ReasoningParserName | null;
  /** A prompt of its template ends within the reasoning. */
  startsInside: boolean;
}
