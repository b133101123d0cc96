/** Why a text ended, in OpenAI's words, which Triton's vLLM backend and LMI's asynchronous answers have taken over. */
import type { FinishReason } from './job-events.js';

export const FINISH_REASONS: Readonly<Record<FinishReason, string>> = {
  'end-id': 'stop',
  length: 'length',
  'stop-string': 'stop',
};
