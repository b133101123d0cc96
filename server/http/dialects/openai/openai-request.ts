/**
 * OpenAI's bodies for completions and chat completions, with vLLM's extra fields → GenerateRequests.
 *
 * In      parsed JSON
 * Out     one request a choice: prompts × n, in the order of their indices
 * Limits  MAX_CHOICES a request; the ranges of sampling-fields.ts, OpenAI's where it has its own
 * Errors  InvalidInput naming field, limit and value; fields that are known but not served are refused, others ignored as OpenAI's
 *         clients expect (user, metadata, store, …)
 * Source  OpenAI API reference; vLLM's "extra parameters"
 */
import { type Static, Type } from '@sinclair/typebox';
import type {
  ChatMessage,
  GenerateRequest,
  Prompt,
  RequestSampling,
} from '../../../requests/generate-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import {
  asList,
  fields,
  present,
  refuseUnserved,
  saltOf,
  topKOf,
} from '../../../requests/sampling-fields.js';
import { type Checked, compileValidator } from '../../../requests/validation.js';

const MAX_CHOICES = 128;
const MAX_MESSAGES = 4096;
/** OpenAI's default for completions; a chat fills the context. */
const DEFAULT_COMPLETION_TOKENS = 16;
const SAMPLING_DEFAULTS: RequestSampling = { doSample: true, temperature: 1 };

const optional = Type.Optional;

const Common = {
  model: optional(Type.String({ minLength: 1, maxLength: 512 })),
  stream: optional(Type.Boolean()),
  stream_options: optional(
    Type.Object({
      include_usage: optional(Type.Boolean()),
      continuous_usage_stats: optional(Type.Boolean()),
    }),
  ),
  n: optional(Type.Integer({ minimum: 1, maximum: MAX_CHOICES })),
  max_tokens: optional(fields.maxNewTokens),
  temperature: optional(Type.Number({ minimum: 0, maximum: 2 })),
  top_p: optional(fields.topP),
  presence_penalty: optional(fields.penalty),
  frequency_penalty: optional(fields.penalty),
  stop: optional(fields.stop),
  seed: optional(fields.seed),
  logit_bias: optional(fields.logitBias),
  top_k: optional(fields.topK),
  min_p: optional(fields.minP),
  typical_p: optional(fields.typicalP),
  repetition_penalty: optional(fields.repetitionPenalty),
  min_tokens: optional(fields.minNewTokens),
  stop_token_ids: optional(fields.tokenIds),
  ignore_eos: optional(Type.Boolean()),
  include_stop_str_in_output: optional(Type.Boolean()),
  skip_special_tokens: optional(Type.Boolean()),
  cache_salt: optional(fields.cacheSalt),
};

const PromptField = Type.Union(
  [
    Type.String({ minLength: 1 }),
    Type.Array(Type.String({ minLength: 1 }), { minItems: 1, maxItems: MAX_CHOICES }),
    fields.promptIds,
    Type.Array(fields.promptIds, { minItems: 1, maxItems: MAX_CHOICES }),
  ],
  {
    expects: `a text, a list of token ids, or a list of at most ${MAX_CHOICES} of either, none of them empty`,
  },
);

export const CompletionBody = Type.Object({
  ...Common,
  prompt: PromptField,
  echo: optional(Type.Boolean()),
  logprobs: optional(fields.topLogprobs),
});
export type CompletionBody = Static<typeof CompletionBody>;

const TextPart = Type.Object({ type: Type.Literal('text'), text: Type.String() });

const Message = Type.Object({
  role: Type.String({ minLength: 1, maxLength: 64 }),
  content: Type.Union([Type.String(), Type.Array(TextPart), Type.Null()], {
    expects: 'a text or a list of {"type": "text", "text": …}: this server takes text alone',
  }),
});

export const ChatBody = Type.Object({
  ...Common,
  messages: Type.Array(Message, { minItems: 1, maxItems: MAX_MESSAGES }),
  max_completion_tokens: optional(fields.maxNewTokens),
  logprobs: optional(Type.Boolean()),
  top_logprobs: optional(fields.topLogprobs),
});
export type ChatBody = Static<typeof ChatBody>;

/** Known, not served, by either path; the values that change nothing. */
const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  suffix: [''],
  best_of: [1],
  tools: [],
  functions: [],
  function_call: ['none', 'auto'],
  tool_choice: ['none', 'auto'],
  response_format: [],
  modalities: [],
  audio: [],
  prediction: [],
  web_search_options: [],
  use_beam_search: [false],
  length_penalty: [1],
  prompt_logprobs: [0, false],
  reasoning_effort: ['none'],
  early_stopping: [false],
  spaces_between_special_tokens: [true],
  return_tokens_as_token_ids: [false],
  return_token_ids: [false],
  logits_processors: [],
  thinking_token_budget: [],
  mm_processor_kwargs: [],
  kv_transfer_params: [],
  vllm_xargs: [],
  truncate_prompt_tokens: [],
  guided_json: [],
  guided_regex: [],
  guided_choice: [],
  guided_grammar: [],
  structured_outputs: [],
};

const completionValidator = compileValidator(CompletionBody);
const chatValidator = compileValidator(ChatBody);

export function checkCompletionBody(body: unknown): Checked<CompletionBody> {
  const refused = refuse(body, { ...UNSERVED, add_special_tokens: [true] });
  if (refused !== null) return { error: refused };
  const checked = completionValidator.check(body);
  if ('error' in checked) return checked;
  const { prompt, echo, logprobs, n } = checked.value;
  const prompts = promptsOf(prompt);
  if (prompts.length * (n ?? 1) > MAX_CHOICES) {
    const error = `prompts × n must be at most ${MAX_CHOICES}, got ${prompts.length} × ${n ?? 1}`;
    return { error: new InvalidInput(error, 'n') };
  }
  if (echo === true && prompts.some(({ kind }) => kind === 'ids')) {
    return { error: new InvalidInput('echo is not supported for a prompt of token ids', 'echo') };
  }
  if (echo === true && logprobs !== undefined) {
    return { error: new InvalidInput('echo together with logprobs is not supported by this server', 'echo') };
  }
  return checked;
}

export function checkChatBody(body: unknown): Checked<ChatBody> {
  // A chat's template writes the special tokens.
  const refused = refuse(body, { ...UNSERVED, add_special_tokens: [false] });
  if (refused !== null) return { error: refused };
  const checked = chatValidator.check(body);
  if ('value' in checked && checked.value.top_logprobs !== undefined && checked.value.logprobs !== true) {
    return { error: new InvalidInput('top_logprobs needs logprobs to be true', 'top_logprobs') };
  }
  return checked;
}

/** Refusals that no schema of the served fields can say. response_format text is what happens anyway. */
function refuse(body: unknown, unserved: typeof UNSERVED): InvalidInput | null {
  if (typeof body !== 'object' || body === null) return null;
  const given = body as Record<string, unknown>;
  const format = given.response_format as { type?: unknown } | null | undefined;
  return refuseUnserved(format?.type === 'text' ? { ...given, response_format: null } : given, unserved);
}

/** Where the requests go. */
export interface Target extends Pick<GenerateRequest, 'priority' | 'timeoutMs' | 'cacheSalt'> {
  requestId: string;
  model: string;
  version: string | null;
}

export function completionRequests(body: CompletionBody, target: Target): GenerateRequest[] {
  const topLogprobs = body.logprobs ?? 0;
  return promptsOf(body.prompt).flatMap((prompt) =>
    choices(body, target, prompt, {
      maxNewTokens: body.max_tokens ?? null,
      usualNewTokens: DEFAULT_COMPLETION_TOKENS,
      logprob: body.logprobs !== undefined,
      topLogprobs,
    }),
  );
}

export function chatRequests(body: ChatBody, target: Target): GenerateRequest[] {
  const messages = body.messages.map(
    ({ content, ...fields }): ChatMessage => ({
      ...fields,
      content: Array.isArray(content) ? content.map(({ text }) => text).join('') : (content ?? ''),
    }),
  );
  return choices(
    body,
    target,
    { kind: 'chat', messages },
    {
      maxNewTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
      logprob: body.logprobs ?? false,
      topLogprobs: body.top_logprobs ?? 0,
    },
  );
}

function choices(
  body: Omit<CompletionBody, 'prompt' | 'logprobs'>,
  target: Target,
  prompt: Prompt,
  own: Pick<GenerateRequest, 'maxNewTokens' | 'usualNewTokens' | 'logprob' | 'topLogprobs'>,
): GenerateRequest[] {
  const sampling: RequestSampling = {
    ...present('temperature', body.temperature),
    ...present('topP', body.top_p),
    ...topKOf(body.top_k),
    ...present('minP', body.min_p),
    ...present('typicalP', body.typical_p),
    ...present('repetitionPenalty', body.repetition_penalty),
    ...present('presencePenalty', body.presence_penalty),
    ...present('frequencyPenalty', body.frequency_penalty),
    ...present('minNewTokens', body.min_tokens),
    ...present('logitBias', body.logit_bias),
  };
  return Array.from({ length: body.n ?? 1 }, (_, index) => ({
    kind: 'generate',
    ...target,
    ...saltOf(target.cacheSalt, body.cache_salt),
    prompt,
    ...own,
    // The first choice is what the seed gives alone.
    sampling: { ...sampling, ...present('seed', derivedSeed(body.seed, index)) },
    samplingDefaults: SAMPLING_DEFAULTS,
    stopStrings: asList(body.stop),
    includeStopString: body.include_stop_str_in_output ?? false,
    stopTokenIds: body.stop_token_ids ?? [],
    ignoreEndIds: body.ignore_eos ?? false,
    skipSpecialTokens: body.skip_special_tokens ?? true,
  }));
}

function derivedSeed(seed: number | undefined, index: number): number | undefined {
  return seed === undefined ? undefined : (seed + index) % (Number.MAX_SAFE_INTEGER + 1);
}

export function promptsOf(
  prompt: string | string[] | number[] | number[][],
): Exclude<Prompt, { kind: 'chat' }>[] {
  if (typeof prompt === 'string') return [{ kind: 'text', text: prompt }];
  if (typeof prompt[0] === 'number') return [{ kind: 'ids', ids: prompt as number[] }];
  return (prompt as (string | number[])[]).map((entry) =>
    typeof entry === 'string' ? { kind: 'text', text: entry } : { kind: 'ids', ids: entry },
  );
}
