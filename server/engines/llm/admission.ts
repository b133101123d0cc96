/**
 * Whether a request fits its model, and how many new tokens it may have.
 *
 * In      prompt length, what was asked, the limits of the model's groups
 * Out     the number of new tokens that is reserved for the job; of a text to embed: nothing
 * Errors  BAD_REQUEST: an empty prompt; PROMPT_TOO_LONG: it can never fit. The message names limit and values
 * Pure
 */
import { ServingError } from '../../../proto/errors.js';
import { KV_PAGE_TOKENS } from '../../batching/slot-table.js';

export interface AdmissionLimits {
  /** Positions of one sequence: prompt and new tokens. */
  slotTokens: number;
  /** Tokens that the KV memory of a group holds over all its sequences, in whole pages. */
  kvTokens: number;
}

/**
 * @param asked null: what is usual for the model, or as many as there is room for
 * @param usual gives way where there is less room
 */
export function admitNewTokens(
  promptTokens: number,
  asked: number | null,
  limits: AdmissionLimits,
  usual?: number,
): number {
  if (promptTokens === 0) throw new ServingError('BAD_REQUEST', 'The prompt is empty: it has no token');
  const limit = Math.min(limits.slotTokens, limits.kvTokens);
  const what =
    limits.slotTokens <= limits.kvTokens
      ? `This model's maximum context length is ${limit} tokens`
      : `The KV memory holds ${limit} tokens (option.kv_cache_memory_mb, pages of ${KV_PAGE_TOKENS})`;
  const room = limit - promptTokens;
  if (room < 1) {
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `${what}, but the prompt has ${promptTokens}: shorten it to at most ${limit - 1}`,
    );
  }
  if (asked !== null && asked > room) {
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `${what}, but ${promptTokens + asked} were requested (${promptTokens} in the prompt, ${asked} new): ` +
        `ask for at most ${room} new tokens`,
    );
  }
  return asked ?? Math.min(usual ?? room, room);
}

/** A text of an embedding model. @throws ServingError BAD_REQUEST, PROMPT_TOO_LONG */
export function admitText(tokens: number, { slotTokens }: Pick<AdmissionLimits, 'slotTokens'>): void {
  if (tokens === 0) throw new ServingError('BAD_REQUEST', 'The text is empty: it has no token');
  if (tokens <= slotTokens) return;
  throw new ServingError(
    'PROMPT_TOO_LONG',
    `This model's maximum text length is ${slotTokens} tokens, but the text has ${tokens}: shorten it, or let it be cut ` +
      '(truncate_prompt_tokens of a request, option.truncate_texts of the model)',
  );
}
