/**
 * OpenAI's embeddings, with vLLM's extra field → one EmbedRequest a text, and the answer.
 *
 * In      {"model", "input": text | texts | token ids | lists of them, "encoding_format", "dimensions", "truncate_prompt_tokens"}
 * Out     {"object": "list", "data": [{"object": "embedding", "index", "embedding"}], "model", "usage"}; base64: the float32 values,
 *         little-endian
 * Limits  MAX_INPUTS texts a request; a text that is longer than the model takes is refused, as OpenAI does, unless
 *         truncate_prompt_tokens or option.truncate_texts says otherwise
 * Errors  InvalidInput naming field, limit and value; other fields are ignored as OpenAI's clients expect (user)
 * Source  OpenAI API reference (embeddings); vLLM: truncate_prompt_tokens, -1: the model's limit
 */
import { type Static, Type } from '@sinclair/typebox';
import { promptsOf } from '../../../requests/completion-request.js';
import type { EmbedRequest } from '../../../requests/embed-request.js';
import { InvalidInput } from '../../../requests/invalid-input.js';
import { fields } from '../../../requests/sampling-fields.js';
import type { Target } from '../../../requests/target.js';
import { type Checked, compileValidator } from '../../../requests/validation.js';
import type { Answer } from '../../answers/answer.js';
import { embedAll, shortDecimals } from '../../answers/embed-all.js';
import type { HttpContext } from '../../http-context.js';
import { withOwnIds } from './openai-handlers.js';

/** OpenAI's. */
export const MAX_INPUTS = 2048;

const optional = Type.Optional;
const text = Type.String({ minLength: 1 });

export const InputField = Type.Union(
  [
    text,
    Type.Array(text, { minItems: 1, maxItems: MAX_INPUTS }),
    fields.promptIds,
    Type.Array(fields.promptIds, { minItems: 1, maxItems: MAX_INPUTS }),
  ],
  {
    expects: `a text, a list of token ids, or a list of at most ${MAX_INPUTS} of either, none of them empty`,
  },
);

export const EmbeddingBody = Type.Object({
  model: optional(Type.String({ minLength: 1, maxLength: 512 })),
  input: InputField,
  encoding_format: optional(
    Type.Union([Type.Literal('float'), Type.Literal('base64')], { expects: '"float" or "base64"' }),
  ),
  dimensions: optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
  truncate_prompt_tokens: optional(Type.Integer({ minimum: -1, maximum: 16_777_216 })),
});
export type EmbeddingBody = Static<typeof EmbeddingBody>;

const validator = compileValidator(EmbeddingBody);

export function checkEmbeddingBody(body: unknown): Checked<EmbeddingBody> {
  const checked = validator.check(body);
  if ('value' in checked && checked.value.truncate_prompt_tokens === 0) {
    const sentence = 'truncate_prompt_tokens must be at least 1, or -1 for what the model takes, got 0';
    return { error: new InvalidInput(sentence, 'truncate_prompt_tokens') };
  }
  return checked;
}

export function embeddingRequests(
  body: Pick<EmbeddingBody, 'input' | 'dimensions' | 'truncate_prompt_tokens'>,
  target: Target,
): EmbedRequest[] {
  const cutAt = body.truncate_prompt_tokens ?? null;
  return promptsOf(body.input).map((prompt) => ({
    ...target,
    kind: 'embed',
    prompt,
    truncate: cutAt === null ? null : true,
    truncateDefault: false,
    maxTokens: cutAt === -1 ? null : cutAt,
    dimensions: body.dimensions ?? null,
  }));
}

export async function answerEmbeddings(
  { service }: HttpContext,
  body: EmbeddingBody,
  target: Target,
  client: AbortController,
): Promise<Answer> {
  const requests = withOwnIds(embeddingRequests(body, target));
  const encode = body.encoding_format === 'base64' ? base64 : shortDecimals;
  const collect = await embedAll<string | number[]>(service, requests, client, encode);
  const make = async () => {
    const { promptTokens, vectors } = await collect();
    return {
      object: 'list',
      data: vectors.map((embedding, index) => ({ object: 'embedding', index, embedding })),
      model: target.model,
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    };
  };
  return { kind: 'value', make };
}

/** Float32 of this platform: little-endian, as x64 and arm64 are. */
function base64(vector: readonly number[]): string {
  return Buffer.from(Float32Array.from(vector).buffer).toString('base64');
}
