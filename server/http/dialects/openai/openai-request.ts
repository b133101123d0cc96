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
import type { AnswerConstraint, ConstraintSpec } from '../../../requests/answer-constraint.js';
import type {
  ChatOptions,
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
import { answerForm } from './answer-form.js';
import { chatMessages, Message } from './chat-messages.js';
import { type ToolBody, ToolFields, toolUse } from './chat-tools.js';

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
  prompt_logprobs: optional(fields.topLogprobs),
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
  allowed_token_ids: optional(fields.allowedTokenIds),
  bad_words: optional(fields.badWords),
  response_format: optional(Type.Unknown()),
  structured_outputs: optional(Type.Unknown()),
  guided_json: optional(Type.Unknown()),
  guided_regex: optional(Type.Unknown()),
  guided_choice: optional(Type.Unknown()),
  guided_grammar: optional(Type.Unknown()),
  guided_json_object: optional(Type.Unknown()),
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
  /** 0: of an echo, or a prompt whose log-probabilities are asked for. */
  max_tokens: optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })),
  prompt: PromptField,
  echo: optional(Type.Boolean()),
  logprobs: optional(fields.topLogprobs),
});
export type CompletionBody = Static<typeof CompletionBody>;

export const ChatBody = Type.Object({
  ...Common,
  ...ToolFields,
  messages: Type.Array(Message, { minItems: 1, maxItems: MAX_MESSAGES }),
  add_generation_prompt: optional(Type.Boolean()),
  continue_final_message: optional(Type.Boolean()),
  chat_template_kwargs: optional(Type.Record(Type.String({ maxLength: 256 }), Type.Unknown())),
  reasoning_effort: optional(Type.String({ minLength: 1, maxLength: 64 })),
  include_reasoning: optional(Type.Boolean()),
  max_completion_tokens: optional(fields.maxNewTokens),
  logprobs: optional(Type.Boolean()),
  top_logprobs: optional(fields.topLogprobs),
});
export type ChatBody = Static<typeof ChatBody>;

/** Known, not served, by either path; the values that change nothing. */
const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  suffix: [''],
  best_of: [1],
  functions: [],
  function_call: ['none', 'auto'],
  modalities: [],
  audio: [],
  prediction: [],
  web_search_options: [],
  use_beam_search: [false],
  length_penalty: [1],
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
  chat_template: [],
  documents: [],
};

/** Of a completion: they belong to a chat. */
const CHAT_ALONE: typeof UNSERVED = { tools: [], tool_choice: ['none', 'auto'], reasoning_effort: ['none'] };

const completionValidator = compileValidator(CompletionBody);
const chatValidator = compileValidator(ChatBody);

export function checkCompletionBody(body: unknown): Checked<CompletionBody> {
  const refused = refuse(body, { ...UNSERVED, ...CHAT_ALONE, add_special_tokens: [true] });
  if (refused !== null) return { error: refused };
  const checked = completionValidator.check(body);
  if ('error' in checked) return checked;
  const { max_tokens, n, prompt } = checked.value;
  const prompts = promptsOf(prompt);
  if (prompts.length * (n ?? 1) > MAX_CHOICES) {
    const error = `prompts × n must be at most ${MAX_CHOICES}, got ${prompts.length} × ${n ?? 1}`;
    return { error: new InvalidInput(error, 'n') };
  }
  if (max_tokens === 0 && toldPrompt(checked.value) === undefined) {
    const error = 'max_tokens must be at least 1 (0 with echo and logprobs, or with prompt_logprobs), got 0';
    return { error: new InvalidInput(error, 'max_tokens') };
  }
  const refusal = promptLogprobsRefusal(checked.value);
  if (refusal !== null) return { error: refusal };
  return formChecked(checked);
}

export function checkChatBody(body: unknown): Checked<ChatBody> {
  // A chat's template writes the special tokens.
  const refused = refuse(body, { ...UNSERVED, add_special_tokens: [false] });
  if (refused !== null) return { error: refused };
  const checked = chatValidator.check(body);
  if ('error' in checked) return checked;
  const { add_generation_prompt, continue_final_message, logprobs, top_logprobs } = checked.value;
  if (top_logprobs !== undefined && logprobs !== true) {
    return { error: new InvalidInput('top_logprobs needs logprobs to be true', 'top_logprobs') };
  }
  const refusal = promptLogprobsRefusal(checked.value);
  if (refusal !== null) return { error: refusal };
  if (continue_final_message === true && add_generation_prompt === true) {
    const error = 'continue_final_message and add_generation_prompt cannot both be true';
    return { error: new InvalidInput(error, 'continue_final_message') };
  }
  return formChecked(checked);
}

/** As vLLM has it. */
function promptLogprobsRefusal({
  prompt_logprobs: asked,
  stream,
}: Pick<ChatBody, 'prompt_logprobs' | 'stream'>) {
  if (asked === undefined || stream !== true) return null;
  return new InvalidInput('prompt_logprobs are not available when stream is true', 'prompt_logprobs');
}

/** Alternatives of each of the prompt's tokens, where they are told. */
export function toldPrompt(body: CompletionBody): number | undefined {
  const { echo, logprobs, prompt, prompt_logprobs: asked } = body;
  const isEcho =
    echo === true && (logprobs !== undefined || promptsOf(prompt).some(({ kind }) => kind === 'ids'));
  return isEcho ? Math.max(logprobs ?? 0, asked ?? 0) : asked;
}

/** What its types cannot say of the form of an answer. */
function formChecked<B extends object>(checked: { value: B }): Checked<B> {
  try {
    const form = answerForm(checked.value as Record<string, unknown>);
    const { constraint } = toolUse(checked.value as ToolBody);
    if (form === null || constraint === null) return checked;
    const error = 'tool_choice and a form of the answer cannot both be asked for';
    return { error: new InvalidInput(error, 'tool_choice') };
  } catch (error) {
    if (error instanceof InvalidInput) return { error };
    throw error;
  }
}

/** Refusals that no schema of the served fields can say. */
function refuse(body: unknown, unserved: typeof UNSERVED): InvalidInput | null {
  if (typeof body !== 'object' || body === null) return null;
  return refuseUnserved(body as Record<string, unknown>, unserved);
}

/** What a chat's tools and its model's way to answer make of its requests. */
export interface ChatPlan {
  /** What the tools ask of the answer; null: nothing. */
  constraint: ConstraintSpec | null;
  behind: AnswerConstraint['behind'];
  /** Unless the body says otherwise. */
  skipSpecialTokens: boolean;
}

const FREE_CHAT: ChatPlan = { constraint: null, behind: null, skipSpecialTokens: true };

/** Where the requests go. */
export interface Target extends Pick<GenerateRequest, 'priority' | 'timeoutMs' | 'cacheSalt'> {
  requestId: string;
  model: string;
  version: string | null;
}

export function completionRequests(body: CompletionBody, target: Target): GenerateRequest[] {
  const topLogprobs = body.logprobs ?? 0;
  const told = toldPrompt(body);
  return promptsOf(body.prompt).flatMap((prompt) =>
    choices(body, target, prompt, {
      maxNewTokens: body.max_tokens ?? null,
      usualNewTokens: DEFAULT_COMPLETION_TOKENS,
      logprob: body.logprobs !== undefined,
      topLogprobs,
      ...(told !== undefined && { promptLogprobs: told }),
    }),
  );
}

/** What the template is told besides the messages. */
export function chatOptions(body: Omit<ChatBody, 'messages'>): ChatOptions {
  const { chat_template_kwargs: others, reasoning_effort: effort, tools } = body;
  const continues = body.continue_final_message === true;
  return {
    ...(tools && tools.length > 0 && { tools }),
    ...((continues || body.add_generation_prompt === false) && { addGenerationPrompt: false }),
    ...(continues && { continueFinalMessage: true }),
    ...((others ?? effort) !== undefined && {
      templateOptions: { ...(effort !== undefined && { reasoning_effort: effort }), ...others },
    }),
  };
}

/** @param plan what is known of the model's answers */
export function chatRequests(body: ChatBody, target: Target, plan: ChatPlan = FREE_CHAT): GenerateRequest[] {
  const prompt: Prompt = { kind: 'chat', messages: chatMessages(body.messages), ...chatOptions(body) };
  return choices(
    { skip_special_tokens: plan.skipSpecialTokens, ...body },
    target,
    prompt,
    {
      maxNewTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
      logprob: body.logprobs ?? false,
      topLogprobs: body.top_logprobs ?? 0,
      ...(body.prompt_logprobs !== undefined && { promptLogprobs: body.prompt_logprobs }),
    },
    plan,
  );
}

function choices(
  body: Omit<CompletionBody, 'prompt' | 'logprobs'>,
  target: Target,
  prompt: Prompt,
  own: Pick<
    GenerateRequest,
    'maxNewTokens' | 'usualNewTokens' | 'logprob' | 'topLogprobs' | 'promptLogprobs'
  >,
  { behind, constraint }: Pick<ChatPlan, 'behind' | 'constraint'> = FREE_CHAT,
): GenerateRequest[] {
  const spec = constraint ?? answerForm(body as Record<string, unknown>);
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
    ...present('allowedTokenIds', body.allowed_token_ids),
    ...present('badWords', body.bad_words === undefined ? undefined : asList(body.bad_words)),
  };
  return Array.from({ length: body.n ?? 1 }, (_, index) => ({
    kind: 'generate',
    ...target,
    ...saltOf(target.cacheSalt, body.cache_salt),
    prompt,
    ...own,
    ...(spec !== null && { constraint: { spec, behind } }),
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
