/**
 * Which parser reads a model's answers: by the names of its options, or by a guess from its chat template.
 *
 * In      option.tool_call_parser, option.reasoning_parser; the template's text, and what a prompt of it ends with
 * Out     AnswerFormat; a parser an answer
 * Errors  none: the options' values are checked where they are read
 * Source  names: vLLM's --tool-call-parser and --reasoning-parser
 */
import type { AnswerFormat, CallParserName, ReasoningParserName } from '../../requests/answer-format.js';
import { type AnswerParser, type AnswerPart, PartWriter } from './answer-part.js';
import { Harmony } from './harmony.js';
import { MistralCalls } from './mistral-calls.js';
import { PythonicCalls } from './pythonic-calls.js';
import { HERMES, LIST, LLAMA3, TaggedCalls } from './tagged-calls.js';
import { Thinking, type ThinkingFormat } from './thinking.js';

const CALL_PARSERS = {
  hermes: () => new TaggedCalls(HERMES),
  qwen: () => new TaggedCalls(HERMES),
  llama3_json: () => new TaggedCalls(LLAMA3),
  llama4_json: () => new TaggedCalls(LLAMA3),
  mistral: () => new MistralCalls(),
  pythonic: () => new PythonicCalls(),
  llama4_pythonic: () => new PythonicCalls(),
  openai: () => new Harmony(),
} satisfies Record<CallParserName, () => AnswerParser>;

const THINKING = {
  deepseek_r1: { open: '<think>', close: '</think>', startsInside: true },
  qwen3: { open: '<think>', close: '</think>', startsInside: false },
  mistral: { open: '[THINK]', close: '[/THINK]', startsInside: false },
  granite: { open: 'Here is my thought process:', close: 'Here is my response:', startsInside: false },
  seed_oss: { open: '<seed:think>', close: '</seed:think>', startsInside: true },
} satisfies Record<Exclude<ReasoningParserName, 'openai_gptoss'>, ThinkingFormat>;

export const CALL_PARSER_NAMES = Object.keys(CALL_PARSERS);
export const REASONING_PARSER_NAMES = [...Object.keys(THINKING), 'openai_gptoss'];

export const PLAIN_ANSWERS: AnswerFormat = { calls: null, reasoning: null, startsInside: false };

/** Markers of what is looked for are special tokens: the text must have them. */
export function needsSpecialTokens({ calls, reasoning }: AnswerFormat, hasCalls: boolean): boolean {
  if (reasoning === 'openai_gptoss' || reasoning === 'mistral') return true;
  return (
    hasCalls && calls !== null && ['mistral', 'openai', 'llama3_json', 'llama4_pythonic'].includes(calls)
  );
}

/**
 * @param template the text of the chat template; with tools, where it has one of its own
 * @param promptEnd what a prompt of one message ends with
 */
export function guessAnswerFormat(template: string, promptEnd: string): AnswerFormat {
  if (template.includes('<|channel|>'))
    return { calls: 'openai', reasoning: 'openai_gptoss', startsInside: false };
  const calls = guessCalls(template);
  if (template.includes('[THINK]')) return { calls, reasoning: 'mistral', startsInside: false };
  const startsInside = promptEnd.trimEnd().endsWith('<think>');
  const reasoning = startsInside ? 'deepseek_r1' : /<\/think>/.test(template) ? 'qwen3' : null;
  return { calls, reasoning, startsInside };
}

function guessCalls(template: string): CallParserName | null {
  if (template.includes('[TOOL_CALLS]')) return 'mistral';
  // Qwen3-Coder writes XML within the same marker: not served, and its text stays as it is.
  if (template.includes('<tool_call>')) return template.includes('<function=') ? null : 'hermes';
  if (template.includes('<|python_start|>')) return 'llama4_pythonic';
  const isLlama = template.includes('<|start_header_id|>');
  if (isLlama && /\[func_name1\(|\[func_name\(/.test(template)) return 'pythonic';
  if (isLlama && template.includes('"parameters"')) return 'llama3_json';
  return null;
}

/** What a constrained answer of the model begins with; null: it thinks nothing, or within channels. */
export function thinkingOf({ reasoning, startsInside }: AnswerFormat, thinks = true): ThinkingFormat | null {
  if (reasoning === null || reasoning === 'openai_gptoss' || !thinks) return null;
  const style = THINKING[reasoning];
  return { ...style, startsInside: startsInside || style.startsInside };
}

export interface ParserOptions {
  format: AnswerFormat;
  /** Calls are looked for: there are tools, and the answer may call one. */
  hasCalls: boolean;
  /** false: the chat was rendered without (chat_template_kwargs). */
  thinks?: boolean;
  /** The answer is made to be this: a list of calls, or the arguments of one. */
  forced?: { kind: 'list' } | { kind: 'arguments'; name: string } | null;
}

/** The parser of one answer; null: the text is the answer. */
export function newAnswerParser({
  forced = null,
  format,
  hasCalls,
  thinks = true,
}: ParserOptions): AnswerParser | null {
  const rest = forced === null ? callParser(format, hasCalls) : forcedParser(forced);
  if (forced === null && (format.reasoning === 'openai_gptoss' || rest instanceof Harmony))
    return new Harmony();
  const thinking = thinkingOf(format);
  if (thinking === null) return rest;
  // Told not to think it does not begin within, and may all the same.
  return new Thinking(thinks ? thinking : { ...thinking, startsInside: false }, rest ?? new Plain());
}

const callParser = ({ calls }: AnswerFormat, hasCalls: boolean): AnswerParser | null =>
  hasCalls && calls !== null ? CALL_PARSERS[calls]() : null;

const forcedParser = (forced: NonNullable<ParserOptions['forced']>): AnswerParser =>
  forced.kind === 'list' ? new TaggedCalls(LIST) : new OneCall(forced.name);

/** All of the text is what the model says. */
class Plain implements AnswerParser {
  push(text: string): AnswerPart[] {
    return text === '' ? [] : [{ kind: 'content', text }];
  }

  flush(): AnswerPart[] {
    return [];
  }
}

/** All of the text is the arguments of one call. */
class OneCall implements AnswerParser {
  readonly #parts = new PartWriter();
  #name: string | null;

  constructor(name: string) {
    this.#name = name;
  }

  push(text: string): AnswerPart[] {
    if (text === '') return [];
    if (this.#name !== null) this.#parts.call(this.#name);
    this.#name = null;
    this.#parts.arguments(text);
    return this.#parts.take();
  }

  flush(): AnswerPart[] {
    return this.#parts.take();
  }
}
