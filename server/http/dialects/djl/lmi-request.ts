/**
 * DJLServing's LMI text-generation body → GenerateRequest.
 *
 * In      {"inputs": text | texts, "parameters": {…}, "stream": bool}
 * Out     a valid request a text; names of parameters that nobody knows, for a warning in the log
 * Limits  MAX_INPUTS texts a request (to embed: MAX_TEXTS); the ranges of sampling-fields.ts
 * Errors  InvalidInput in LMI's words (the dialect answers 424)
 * Source  LMI's input and output schema. Differences: a parameter of a wrong type or range is refused, never passed on;
 *         a list of inputs gives a list of answers with continuous batching too
 */

import { type Static, type TOptional, type TUnknown, Type } from '@sinclair/typebox';
import { isObject } from '../../../../proto/is-object.js';
import { answerForm, answerFormRefusal, FORM_FIELDS } from '../../../requests/answer-form.js';
import { derivedSeed } from '../../../requests/completion-request.js';
import type { GenerateRequest, RequestSampling } from '../../../requests/generate-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import {
  asList,
  fields,
  present,
  refuseUnserved,
  saltOf,
  samplingOf,
  textNames,
  textShapeOf,
} from '../../../requests/sampling-fields.js';
import { type Checked, compileValidator, quote } from '../../../requests/validation.js';

const MAX_INPUTS = 128;
/** Texts of one prompt, the best of which is told first. */
const MAX_CANDIDATES = 8;
/** For an embedding model. */
export const MAX_TEXTS = 2048;
/** LMI's default. */
const DEFAULT_MAX_NEW_TOKENS = 30;
const SAMPLING_DEFAULTS: RequestSampling = { doSample: false, temperature: 1 };

const optional = Type.Optional;
/** Read by answer-form.ts. */
const formFields = Object.fromEntries(FORM_FIELDS.map((name) => [name, optional(Type.Unknown())])) as Record<
  (typeof FORM_FIELDS)[number],
  TOptional<TUnknown>
>;
const Parameters = Type.Object({
  ...textNames,
  do_sample: optional(Type.Boolean()),
  manual_seed: optional(fields.seed),
  max_new_tokens: optional(fields.maxNewTokens),
  max_tokens: optional(fields.maxNewTokens),
  min_new_tokens: optional(fields.minNewTokens),
  min_length: optional(fields.minNewTokens),
  details: optional(Type.Boolean()),
  return_full_text: optional(Type.Boolean()),
  stop_sequences: optional(fields.stop),
  ignore_eos_token: optional(Type.Boolean()),
  logprobs: optional(Type.Union([Type.Boolean(), fields.topLogprobs], { expects: 'true, false or 0 … 20' })),
  top_n_tokens: optional(fields.topLogprobs),
  n: optional(Type.Integer({ minimum: 1, maximum: MAX_CANDIDATES })),
  best_of: optional(Type.Integer({ minimum: 1, maximum: MAX_CANDIDATES })),
  decoder_input_details: optional(Type.Boolean()),
  allowed_token_ids: optional(fields.allowedTokenIds),
  bad_words: optional(fields.badWords),
  bad_sequences: optional(fields.badWords),
  truncate: optional(fields.keptTokens),
  ...formFields,
});

const Inputs = Type.Union(
  [
    Type.String({ minLength: 1 }),
    Type.Array(Type.String({ minLength: 1 }), { minItems: 1, maxItems: MAX_TEXTS }),
  ],
  { expects: `a text or a list of at most ${MAX_TEXTS} texts` },
);

/** What a prediction may send: everything else about it is checked by checkLmiBody. */
export const LmiBody = Type.Object({
  inputs: Inputs,
  parameters: optional(Parameters),
  stream: optional(Type.Boolean()),
});
export type LmiBody = Static<typeof LmiBody>;

const validator = compileValidator(LmiBody);

/** Known elsewhere, not here; the values that change nothing. */
const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  num_beams: [1],
  length_penalty: [1],
  early_stopping: [false],
  use_beam_search: [false],
  prompt_logprobs: [0, false],
  logits_processors: [],
  logprob_token_ids: [],
  flat_logprobs: [false],
  detokenize: [true],
  add_special_tokens: [true],
  output_kind: [],
  extra_args: [],
  vllm_xargs: [],
  guided_decoding: [],
  thinking_token_budget: [],
  repetition_detection: [],
  skip_reading_prefix_cache: [false],
  adapter_id: [],
  spaces_between_special_tokens: [true],
  watermark: [false],
  grammar: [],
};

/** One thing under the names that LMI's backends have for it. */
const SYNONYMS: readonly (readonly (keyof Static<typeof Parameters>)[])[] = [
  ['max_new_tokens', 'max_tokens'],
  ['min_new_tokens', 'min_length', 'min_tokens'],
  ['ignore_eos_token', 'ignore_eos'],
  ['seed', 'manual_seed'],
  ['truncate', 'truncate_prompt_tokens'],
];

/** The refusal of a parameter that was sent under two names with two values, or null. */
function refuseContradiction(given: Static<typeof Parameters>): InvalidInput | null {
  for (const names of SYNONYMS) {
    const [first, ...others] = names.filter((name) => given[name] !== undefined);
    const second = others.find((name) => given[name] !== given[first!]);
    if (first === undefined || second === undefined) continue;
    const values = `${quote(given[first])} and ${quote(given[second])}`;
    const sentence = `${first} and ${second} mean the same, but are ${values}: send one of them`;
    return new InvalidInput(sentence, second);
  }
  return null;
}

/** The prompt's tokens are a part of the details, which a stream tells with its last line. */
function refusePrefill(given: Static<typeof Parameters>, stream: boolean | undefined): InvalidInput | null {
  if (given.decoder_input_details !== true) return null;
  if (given.details !== true && candidatesOf(given) === 1)
    return new InvalidInput('decoder_input_details is told in the details: send details=true too', 'details');
  if (stream === true)
    return new InvalidInput('decoder_input_details is not told in a stream', 'decoder_input_details');
  return null;
}

/** LMI's own sentences for the fields around the parameters, then the schema's. */
export function checkLmiBody(body: unknown): Checked<LmiBody> {
  const refuse = (sentence: string, param: string | null) => ({
    error: new InvalidInput(`Invalid request payload. ${sentence}`, param),
  });
  if (!isObject(body) || body.inputs === undefined || body.inputs === null) {
    return refuse(
      `Request payload should be a json object specifying the 'inputs' field. Received payload ${quote(body)}`,
      'inputs',
    );
  }
  const { inputs, parameters } = body;
  if (
    typeof inputs !== 'string' &&
    !(Array.isArray(inputs) && inputs.every((text) => typeof text === 'string'))
  ) {
    return refuse(
      `The 'inputs' field must be a string. Received type ${typeOf(inputs)}: ${quote(inputs)}`,
      'inputs',
    );
  }
  if (inputs.length === 0 || (Array.isArray(inputs) && inputs.includes(''))) {
    return refuse("The 'inputs' field does not contain any content.", 'inputs');
  }
  if (parameters !== undefined && parameters !== null && !isObject(parameters)) {
    return refuse(
      `'parameters' must be provided as an object of key-value pairs. Received type ${typeOf(parameters)}: ${quote(parameters)}`,
      'parameters',
    );
  }
  const unserved =
    refuseUnserved(body, { adapters: [] }) ??
    (isObject(parameters) ? refuseUnserved(parameters, UNSERVED) : null);
  if (unserved !== null) return { error: unserved };
  const checked = validator.check(body);
  if ('error' in checked) return checked;
  const asked = checked.value.parameters ?? {};
  const contradiction =
    refuseContradiction(asked) ??
    answerFormRefusal(asked) ??
    refuseGreedy(asked) ??
    refusePrefill(asked, checked.value.stream);
  if (contradiction !== null) return { error: contradiction };
  if (checked.value.stream === true && Array.isArray(inputs)) {
    return refuse("A list of 'inputs' cannot be streamed: send one text, or stream=false", 'stream');
  }
  return checked;
}

/** Texts of a prompt, of which the best is told first. */
const candidatesOf = ({ best_of: bestOf = 1, n = 1 }: Static<typeof Parameters>): number =>
  Math.max(bestOf, n);

function refuseGreedy(given: Static<typeof Parameters>): InvalidInput | null {
  const { do_sample: sampled = false, temperature = 0 } = given;
  if (candidatesOf(given) === 1 || sampled || temperature > 0) return null;
  const sentence = 'best_of and n above 1 need do_sample=true: greedy texts are all the same';
  return new InvalidInput(sentence, 'best_of');
}

/**
 * What only a whole answer tells.
 *
 * @throws InvalidInput, as the body's validation
 */
export function refuseInStream({ parameters: given = {} }: LmiBody): void {
  const name =
    candidatesOf(given) > 1
      ? 'best_of'
      : given.decoder_input_details === true
        ? 'decoder_input_details'
        : null;
  if (name === null) return;
  const sentence = `${name} is not available in a stream: it is told with the whole answer`;
  throw Object.assign(new InvalidInput(sentence, name), { validationContext: 'body' });
}

/**
 * The limit of texts to generate, which is not known before the model is.
 *
 * @throws InvalidInput, as the body's validation
 */
export function requireFewInputs({ inputs }: LmiBody): void {
  if (!Array.isArray(inputs) || inputs.length <= MAX_INPUTS) return;
  const sentence = `inputs must be a text or a list of at most ${MAX_INPUTS} texts, got ${inputs.length}`;
  throw Object.assign(new InvalidInput(sentence, 'inputs'), { validationContext: 'body' });
}

/** Names that are dropped: LMI does so with a warning. */
export function unknownParameters(body: LmiBody): string[] {
  return Object.keys(body.parameters ?? {}).filter(
    (name) => !Object.hasOwn(Parameters.properties, name) && !Object.hasOwn(UNSERVED, name),
  );
}

/** Parameters of the model's own where the request has none of that meaning. */
export function withDefaults(
  body: LmiBody,
  defaults: Readonly<Record<string, string | number | boolean>>,
): LmiBody {
  const given = body.parameters ?? {};
  const isGiven = (name: string): boolean => {
    const same = SYNONYMS.find((names) => (names as readonly string[]).includes(name)) ?? [name];
    return same.some((one) => (given as Record<string, unknown>)[one] !== undefined);
  };
  const added = Object.entries(defaults).filter(([name]) => !isGiven(name));
  return { ...body, parameters: { ...Object.fromEntries(added), ...given } };
}

/** What of the request shapes the answer. */
export interface LmiFormat {
  details: boolean;
  returnFullText: boolean;
  topTokens: boolean;
  /** The prompt's tokens are told. */
  prefill: boolean;
  /** Texts that the best is chosen from. */
  candidates: number;
}

export function lmiFormat(body: LmiBody): LmiFormat {
  const parameters = body.parameters ?? {};
  const candidates = candidatesOf(parameters);
  return {
    candidates,
    details: (parameters.details ?? false) || candidates > 1,
    returnFullText: parameters.return_full_text ?? false,
    topTokens: (parameters.top_n_tokens ?? 0) > 0,
    prefill: parameters.decoder_input_details ?? false,
  };
}

/**
 * @param text one of the inputs
 * @param candidates so many, alike but for their seeds
 * @param needsLogprobs of the form of the answer
 */
export function lmiRequests(
  body: LmiBody,
  text: string,
  target: Pick<GenerateRequest, 'requestId' | 'model' | 'version' | 'priority' | 'timeoutMs' | 'cacheSalt'>,
  candidates: number,
  needsLogprobs: boolean,
): GenerateRequest[] {
  const given = body.parameters ?? {};
  const topLogprobs = given.top_n_tokens ?? 0;
  const badWords = [...asList(given.bad_words), ...asList(given.bad_sequences)];
  const sampling: RequestSampling = {
    ...samplingOf(given),
    ...present('doSample', given.do_sample),
    ...present('seed', given.seed ?? given.manual_seed),
    ...present('minNewTokens', given.min_new_tokens ?? given.min_length ?? given.min_tokens),
    ...present('allowedTokenIds', given.allowed_token_ids),
    ...present('badWords', badWords.length > 0 ? badWords : undefined),
  };
  const form = answerForm(given);
  const request: GenerateRequest = {
    kind: 'generate',
    ...target,
    ...saltOf(target.cacheSalt, given.cache_salt),
    prompt: { kind: 'text', text },
    maxNewTokens: given.max_new_tokens ?? given.max_tokens ?? null,
    usualNewTokens: DEFAULT_MAX_NEW_TOKENS,
    sampling,
    samplingDefaults: SAMPLING_DEFAULTS,
    ...textShapeOf(given),
    ...(given.truncate !== undefined && { keptPromptTokens: given.truncate }),
    stopStrings: [...asList(given.stop_sequences), ...asList(given.stop)],
    ignoreEndIds: given.ignore_eos_token ?? given.ignore_eos ?? false,
    logprob: needsLogprobs || (given.details ?? false) || topLogprobs > 0 || wantsLogprobs(given.logprobs),
    topLogprobs,
    ...(given.decoder_input_details === true && { promptLogprobs: 0 }),
    ...(form !== null && { constraint: { spec: form, behind: null } }),
  };
  return Array.from({ length: candidates }, (_, index) => ({
    ...request,
    // The first is what the seed gives alone.
    sampling: { ...sampling, ...present('seed', derivedSeed(sampling.seed, index)) },
  }));
}

function wantsLogprobs(value: boolean | number | undefined): boolean {
  return value !== undefined && value !== false;
}

function typeOf(value: unknown): string {
  return Array.isArray(value) ? 'list' : value === null ? 'null' : typeof value;
}
