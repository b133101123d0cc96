/**
 * OpenAI's body of a completion, with vLLM's extra fields → GenerateRequests; and what a chat's body has in common with it.
 *
 * In      parsed JSON
 * Out     one request a choice: prompts × n, in the order of their indices
 * Limits  MAX_CHOICES a request; the ranges of sampling-fields.ts, OpenAI's where it has its own
 * Errors  InvalidInput naming field, limit and value; fields that are known but not served are refused, others ignored as OpenAI's
 *         clients expect (user, metadata, store, a prediction, which changes no text, …)
 * Source  OpenAI API reference; vLLM's "extra parameters"
 *
 * Here and not with HTTP: gRPC's sampling_parameters are these fields.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { AnswerConstraint, ConstraintSpec } from './answer-constraint.js';
import { answerForm, answerFormRefusal } from './answer-form.js';
import type { GenerateRequest, Prompt, RequestSampling } from './generate-request.js';
import { InvalidInput } from './invalid-input.js';
import {
  asList,
  fields,
  present,
  refuseUnserved,
  saltOf,
  samplingOf,
  textNames,
  textShapeOf,
} from './sampling-fields.js';
import type { Target } from './target.js';
import { type Checked, compileValidator } from './validation.js';

const MAX_CHOICES = 128;
/** OpenAI's default for completions; a chat fills the context. */
const DEFAULT_COMPLETION_TOKENS = 16;
const SAMPLING_DEFAULTS: RequestSampling = { doSample: true, temperature: 1 };

const optional = Type.Optional;

/** What a completion and a chat both have. */
export const commonNames = {
  ...textNames,
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
  ...commonNames,
  /** 0: of an echo, or a prompt whose log-probabilities are asked for. */
  max_tokens: optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })),
  prompt: PromptField,
  echo: optional(Type.Boolean()),
  /** So many texts of each prompt, of which the n best are told. */
  best_of: optional(Type.Integer({ minimum: 1, maximum: MAX_CHOICES })),
  logprobs: optional(fields.topLogprobs),
});
export type CompletionBody = Static<typeof CompletionBody>;

/** Known, not served, by completions and chats; the values that change nothing. */
export const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  suffix: [''],
  functions: [],
  function_call: ['none', 'auto'],
  modalities: ['text'],
  audio: [],
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
  chat_template: [],
  documents: [],
  // vLLM's; here it is a header, x-priority.
  priority: [0],
};

/** Refused in a completion: they belong to a chat. */
const CHAT_ALONE: typeof UNSERVED = {
  tools: [],
  tool_choice: ['none', 'auto'],
  reasoning_effort: ['none'],
  chat_template_kwargs: [],
  continue_final_message: [false],
  max_completion_tokens: [],
  top_logprobs: [0],
};
/** Likewise in a chat. */
export const COMPLETION_ALONE: typeof UNSERVED = { echo: [false], prompt_embeds: [] };

const completionValidator = compileValidator(CompletionBody);

export function checkCompletionBody(body: unknown): Checked<CompletionBody> {
  const refused = refuseNames(body, {
    ...UNSERVED,
    ...CHAT_ALONE,
    prompt_embeds: [],
    add_special_tokens: [true],
  });
  if (refused !== null) return { error: refused };
  const checked = completionValidator.check(body);
  if ('error' in checked) return checked;
  const { best_of: bestOf, max_tokens, n = 1, prompt, stream } = checked.value;
  const prompts = promptsOf(prompt);
  const made = candidatesOf(checked.value);
  if (prompts.length * made > MAX_CHOICES) {
    const name = made > n ? 'best_of' : 'n';
    const error = `prompts × ${name} must be at most ${MAX_CHOICES}, got ${prompts.length} × ${made}`;
    return { error: new InvalidInput(error, name) };
  }
  if (bestOf !== undefined && bestOf < n)
    return { error: new InvalidInput(`best_of must be at least n, got ${bestOf} and n ${n}`, 'best_of') };
  if (made > n && stream === true)
    return { error: new InvalidInput('best_of above n is not available when stream is true', 'best_of') };
  if (max_tokens === 0 && toldPrompt(checked.value) === undefined) {
    const error = 'max_tokens must be at least 1 (0 with echo and logprobs, or with prompt_logprobs), got 0';
    return { error: new InvalidInput(error, 'max_tokens') };
  }
  const refusal = promptLogprobsRefusal(checked.value) ?? answerFormRefusal(checked.value);
  return refusal === null ? checked : { error: refusal };
}

/** Texts that are made of a prompt, of which n are told. */
export const candidatesOf = ({ best_of: bestOf, n = 1 }: Pick<CompletionBody, 'best_of' | 'n'>): number =>
  bestOf ?? n;

/** As vLLM has it. */
export function promptLogprobsRefusal({
  prompt_logprobs: asked,
  stream,
}: Pick<CompletionBody, 'prompt_logprobs' | 'stream'>) {
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

/** Refusals that no schema of the served fields can say. */
export function refuseNames(body: unknown, unserved: typeof UNSERVED): InvalidInput | null {
  if (typeof body !== 'object' || body === null) return null;
  return refuseUnserved(body as Record<string, unknown>, unserved);
}

export function completionRequests(body: CompletionBody, target: Target): GenerateRequest[] {
  const topLogprobs = body.logprobs ?? 0;
  const told = toldPrompt(body);
  const made = { ...body, n: candidatesOf(body) };
  return promptsOf(body.prompt).flatMap((prompt) =>
    choiceRequests(made, target, prompt, {
      maxNewTokens: body.max_tokens ?? null,
      usualNewTokens: DEFAULT_COMPLETION_TOKENS,
      // The best are those of the highest log-probability.
      logprob: body.logprobs !== undefined || candidatesOf(body) > (body.n ?? 1),
      topLogprobs,
      ...(told !== undefined && { promptLogprobs: told }),
    }),
  );
}

/** What is asked of the answer besides its body; null: nothing. */
export interface AnswerPlan {
  constraint: ConstraintSpec | null;
  behind: AnswerConstraint['behind'];
}

/** A request a choice. @param plan what the answer must be besides what the body says */
export function choiceRequests(
  body: Omit<CompletionBody, 'prompt' | 'logprobs'>,
  target: Target,
  prompt: Prompt,
  own: Pick<
    GenerateRequest,
    'maxNewTokens' | 'usualNewTokens' | 'logprob' | 'topLogprobs' | 'promptLogprobs'
  >,
  { behind, constraint }: AnswerPlan = { behind: null, constraint: null },
): GenerateRequest[] {
  const spec = constraint ?? answerForm(body);
  const sampling: RequestSampling = {
    ...samplingOf(body),
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
    ...textShapeOf(body),
  }));
}

/** The seed that the choice of this index has. */
export function derivedSeed(seed: number | undefined, index: number): number | undefined {
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
