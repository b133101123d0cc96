/**
 * Fields that the dialects share: their ranges, and the ones that are known but not served.
 *
 * Limits  every range stands here once; a dialect names the field
 */
import { type Static, type TObject, type TProperties, Type } from '@sinclair/typebox';
import { MAX_TOP_LOGPROBS } from '../../proto/limits.js';
import type { RequestSampling } from './generate-request.js';
import { InvalidInput } from './invalid-input.js';
import { quote } from './validation.js';

const MAX_STOP_STRINGS = 64;
const MAX_STOP_STRING_CHARACTERS = 1024;
const MAX_STOP_TOKEN_IDS = 1024;
const MAX_BIASED_TOKENS = 4096;
const MAX_ALLOWED_IDS = 65_536;
const MAX_BAD_WORDS = 256;
export const MAX_SALT_CHARACTERS = 256;
/** Above any vocabulary; the model's own is checked when the request meets it. */
const MAX_TOKEN_ID = 2 ** 24;

type StaticObject<P extends TProperties> = Static<TObject<P>>;

const unit = { exclusiveMinimum: 0, maximum: 1 };

export const fields = {
  temperature: Type.Number({ minimum: 0 }),
  topK: Type.Integer({ minimum: -1, maximum: MAX_TOKEN_ID }),
  topP: Type.Number(unit),
  minP: Type.Number({ minimum: 0, maximum: 1 }),
  typicalP: Type.Number(unit),
  repetitionPenalty: Type.Number({ exclusiveMinimum: 0 }),
  penalty: Type.Number({ minimum: -2, maximum: 2 }),
  seed: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  maxNewTokens: Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 }),
  minNewTokens: Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 }),
  topLogprobs: Type.Integer({ minimum: 0, maximum: MAX_TOP_LOGPROBS }),
  tokenIds: Type.Array(Type.Integer({ minimum: 0, maximum: MAX_TOKEN_ID }), { maxItems: MAX_STOP_TOKEN_IDS }),
  promptIds: Type.Array(Type.Integer({ minimum: 0, maximum: MAX_TOKEN_ID }), { minItems: 1 }),
  logitBias: Type.Record(
    Type.String({ pattern: '^[0-9]{1,8}$' }),
    Type.Number({ minimum: -100, maximum: 100 }),
    {
      additionalProperties: false,
      maxProperties: MAX_BIASED_TOKENS,
      expects: `an object of at most ${MAX_BIASED_TOKENS} token ids, each with a number of -100 … 100`,
    },
  ),
  allowedTokenIds: Type.Array(Type.Integer({ minimum: 0, maximum: MAX_TOKEN_ID }), {
    maxItems: MAX_ALLOWED_IDS,
  }),
  badWords: Type.Union(
    [
      Type.String({ maxLength: MAX_STOP_STRING_CHARACTERS }),
      Type.Array(Type.String({ maxLength: MAX_STOP_STRING_CHARACTERS }), { maxItems: MAX_BAD_WORDS }),
    ],
    {
      expects: `a list of at most ${MAX_BAD_WORDS} texts, each of at most ${MAX_STOP_STRING_CHARACTERS} characters`,
    },
  ),
  cacheSalt: Type.String({ minLength: 1, maxLength: MAX_SALT_CHARACTERS }),
  keptTokens: Type.Union([Type.Literal(-1), Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 })], {
    expects: 'a number of tokens, at least 1, or -1: as many as leave room for the answer',
  }),
  stop: Type.Union(
    [
      Type.String({ maxLength: MAX_STOP_STRING_CHARACTERS }),
      Type.Array(Type.String({ maxLength: MAX_STOP_STRING_CHARACTERS }), { maxItems: MAX_STOP_STRINGS }),
    ],
    {
      expects: `a string or a list of at most ${MAX_STOP_STRINGS} strings, each of at most ${MAX_STOP_STRING_CHARACTERS} characters`,
    },
  ),
};

const optional = Type.Optional;

/** What a request for text may say under one name in every dialect that has it. */
export const textNames = {
  temperature: optional(fields.temperature),
  top_k: optional(fields.topK),
  top_p: optional(fields.topP),
  min_p: optional(fields.minP),
  typical_p: optional(fields.typicalP),
  repetition_penalty: optional(fields.repetitionPenalty),
  presence_penalty: optional(fields.penalty),
  frequency_penalty: optional(fields.penalty),
  logit_bias: optional(fields.logitBias),
  seed: optional(fields.seed),
  min_tokens: optional(fields.minNewTokens),
  stop: optional(fields.stop),
  stop_token_ids: optional(fields.tokenIds),
  ignore_eos: optional(Type.Boolean()),
  include_stop_str_in_output: optional(Type.Boolean()),
  skip_special_tokens: optional(Type.Boolean()),
  cache_salt: optional(fields.cacheSalt),
  truncate_prompt_tokens: optional(fields.keptTokens),
};
export type TextNames = StaticObject<typeof textNames>;

/** Sampling by these names. */
export function samplingOf(given: TextNames): RequestSampling {
  return {
    ...present('temperature', given.temperature),
    ...topKOf(given.top_k),
    ...present('topP', given.top_p),
    ...present('minP', given.min_p),
    ...present('typicalP', given.typical_p),
    ...present('repetitionPenalty', given.repetition_penalty),
    ...present('presencePenalty', given.presence_penalty),
    ...present('frequencyPenalty', given.frequency_penalty),
    ...present('logitBias', given.logit_bias),
    ...present('seed', given.seed),
    ...present('minNewTokens', given.min_tokens),
  };
}

/** Where the text begins and ends and what of it is told, by these names. */
export const textShapeOf = (given: TextNames) => ({
  stopStrings: asList(given.stop),
  includeStopString: given.include_stop_str_in_output ?? false,
  stopTokenIds: given.stop_token_ids ?? [],
  ignoreEndIds: given.ignore_eos ?? false,
  skipSpecialTokens: given.skip_special_tokens ?? true,
  ...(given.truncate_prompt_tokens !== undefined && { keptPromptTokens: given.truncate_prompt_tokens }),
});

/** A string, a list of them, or nothing, as a list. */
export function asList(value: string | readonly string[] | undefined): string[] {
  if (value === undefined) return [];
  return (typeof value === 'string' ? [value] : [...value]).filter((text) => text !== '');
}

/** A field that is there only when it has a value: RequestSampling tells absent from undefined. */
export function present<K extends keyof RequestSampling>(
  name: K,
  value: RequestSampling[K] | undefined,
): Pick<RequestSampling, K> | Record<string, never> {
  return value === undefined ? {} : ({ [name]: value } as Pick<RequestSampling, K>);
}

/**
 * Whose prompts a request may share keys and values with. A gateway's salt (header) and the client's own (body) both count: a
 * client cannot leave the tenant that the gateway put it into.
 */
export function saltOf(header: string | undefined, body: string | undefined): { cacheSalt?: string } {
  return header === undefined && body === undefined
    ? {}
    : { cacheSalt: JSON.stringify([header ?? null, body ?? null]) };
}

/** −1 and 0 both mean off. */
function topKOf(value: number | undefined): { topK?: number } {
  return value === undefined ? {} : { topK: Math.max(0, value) };
}

/**
 * Fields that other servers serve and this one does not: refused unless they say what happens anyway.
 *
 * @param neutral field → values that change nothing; a list of them, and of nothing, too
 * @returns the refusal, or null
 */
export function refuseUnserved(
  given: Readonly<Record<string, unknown>>,
  neutral: Readonly<Record<string, readonly unknown[]>>,
): InvalidInput | null {
  for (const [name, values] of Object.entries(neutral)) {
    const value = given[name];
    if (value === undefined || value === null || values.includes(value)) continue;
    if (Array.isArray(value) && value.every((one) => values.includes(one))) continue;
    const only = values.length === 0 ? 'leave it out' : `only ${values.map(quote).join(' or ')} is accepted`;
    return new InvalidInput(`${name} is not supported by this server: ${only}, got ${quote(value)}`, name);
  }
  return null;
}
