/**
 * How a request is asked of a server: one interface for every protocol.
 *
 * In      a payload: text to go on with, or tensors
 * Out     an Answer: when bytes and tokens came, how many, what went wrong
 * Errors  none thrown: a refusal or a broken connection is an Answer with its code, since it is a figure too
 */
export interface TextPayload {
  kind: 'text';
  /** Text, or ids where the protocol takes them and no tokenizer is at hand. */
  prompt: string | readonly number[];
  /** Known of the prompt before; null: not. */
  promptTokens: number | null;
  maxNewTokens: number;
}

export interface TensorValue {
  name: string;
  /** As the Open Inference Protocol writes it. */
  datatype: string;
  shape: readonly number[];
  /** Little-endian elements. */
  bytes: Uint8Array;
  /** The same as JSON writes them, flat. */
  data: readonly (number | boolean)[];
}

export interface TensorPayload {
  kind: 'tensors';
  tensors: readonly TensorValue[];
}

/** A body as it is: what `ab -p FILE` sends. */
export interface BytesPayload {
  kind: 'bytes';
  contentType: string;
  body: Uint8Array;
}

export type Payload = TextPayload | TensorPayload | BytesPayload;

export interface Answer {
  /** When each token came, in order; of an answer at once its first byte alone. */
  tokenTimesMs: number[];
  /** null: the answer does not say. */
  tokensIn: number | null;
  tokensOut: number | null;
  error: string | null;
}

export interface Dialect {
  ask(payload: Payload, signal: AbortSignal): Promise<Answer>;
  close(): void;
}

export const failed = (error: string): Answer => ({
  tokenTimesMs: [],
  tokensIn: null,
  tokensOut: null,
  error,
});
