/** Why a text ended, in Text Generation Inference's words, which LMI has taken over. */
import type { FinishReason } from '../../requests/job-events.js';

export const TGI_FINISH_REASONS: Readonly<Record<FinishReason, string>> = {
  'end-id': 'eos_token',
  length: 'length',
  'stop-string': 'stop_sequence',
};
