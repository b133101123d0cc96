/**
 * What Triton's vLLM backend tells of a text beside text_output, where a request asks for it.
 *
 * In      which are asked for; tokens as they come, and the end
 * Out     tensors of one element a response: of its own tokens, but for what counts from the beginning (cumulative_logprob)
 * Limits  those of the answer: what a response has not told is kept until the next
 * Errors  none
 * Source  Triton's vLLM backend: additional outputs; a reason that is not there yet is "None", as Python writes it
 */
import { FINISH_REASONS } from './finish-reasons.js';
import type { FinishEvent, TokenEvent } from './job-events.js';
import type { NamedTensor, TensorType } from './predict-request.js';
import { packStrings } from './tensor-types.js';

export const ADDITIONAL_OUTPUTS = [
  ...(['finish_reason', 'cumulative_logprob', 'logprobs'] as const),
  ...(['num_input_tokens', 'num_output_tokens'] as const),
] as const;
export type AdditionalOutput = (typeof ADDITIONAL_OUTPUTS)[number];

/** The input that asks for one. */
export const askingInput = (name: AdditionalOutput): string => `return_${name}`;

/** These need the tokens' log-probabilities. */
export const needsLogprobs = (asked: readonly AdditionalOutput[]): boolean =>
  asked.includes('cumulative_logprob') || asked.includes('logprobs');

export class TextOutputs {
  readonly #asked: readonly AdditionalOutput[];
  readonly #promptTokens: number;
  /** Since the last response. */
  #tokens: TokenEvent[] = [];
  #logprob = 0;

  constructor(asked: readonly AdditionalOutput[], promptTokens: number) {
    this.#asked = asked;
    this.#promptTokens = promptTokens;
  }

  add(event: TokenEvent): void {
    if (this.#asked.length === 0) return;
    this.#tokens.push(event);
    this.#logprob += event.logprob;
  }

  /** What a response tells, as plain values. @param finish null: it is not the last */
  values(finish: FinishEvent | null): Partial<Record<AdditionalOutput, string | number>> {
    const told = this.#tokens;
    this.#tokens = [];
    const all: Record<AdditionalOutput, () => string | number> = {
      finish_reason: () => (finish === null ? 'None' : FINISH_REASONS[finish.reason]),
      cumulative_logprob: () => this.#logprob,
      logprobs: () => JSON.stringify(told.map(alternatives)),
      num_input_tokens: () => this.#promptTokens,
      num_output_tokens: () => told.length,
    };
    return Object.fromEntries(this.#asked.map((name) => [name, all[name]()]));
  }

  tensors(finish: FinishEvent | null): NamedTensor[] {
    return Object.entries(this.values(finish)).map(([name, value]): NamedTensor => {
      const of = (type: TensorType, bytes: Uint8Array): NamedTensor => ({ name, type, shape: [1], bytes });
      if (typeof value === 'string') return of('BYTES', packStrings([value]));
      const bytes = Buffer.alloc(4);
      if (name === 'cumulative_logprob') {
        bytes.writeFloatLE(value);
        return of('FP32', bytes);
      }
      bytes.writeUInt32LE(value);
      return of('UINT32', bytes);
    });
  }
}

/** By the tokens' ids, its own among them. */
function alternatives({ logprob, own, text, tokenId, topLogprobs }: TokenEvent) {
  const rank = topLogprobs.findIndex((one) => one.tokenId === tokenId);
  const listed = topLogprobs.map((one, at) => [
    one.tokenId,
    { logprob: one.logprob, rank: at + 1, decoded_token: one.text },
  ]);
  const itself = { logprob, rank: rank < 0 ? null : rank + 1, decoded_token: own?.text ?? text };
  return { ...Object.fromEntries(listed), [tokenId]: itself };
}
