/** How a model writes what it thinks and calls: names of parsers (text/answer-parts/answer-parsers.ts), as vLLM has them. */
export type CallParserName =
  | 'hermes'
  | 'qwen'
  | 'llama3_json'
  | 'llama4_json'
  | 'mistral'
  | 'pythonic'
  | 'llama4_pythonic'
  | 'openai';

export type ReasoningParserName =
  | 'deepseek_r1'
  | 'qwen3'
  | 'mistral'
  | 'granite'
  | 'seed_oss'
  | 'openai_gptoss';

export interface AnswerFormat {
  /** null: its calls are text. */
  calls: CallParserName | null;
  /** null: it does not think, or that is text. */
  reasoning: ReasoningParserName | null;
  /** A prompt of its template ends within the reasoning. */
  startsInside: boolean;
}
