/**
 * What a request named that ended its text: one of its stop strings, or the id of one of its stop tokens.
 *
 * In      why the text ended; the stop string that was found; the last token
 * Out     FinishEvent's `stop`, or nothing: the model ended it, or it is as long as it may be
 * Errors  none
 */
import type { GenerateRequest } from '../requests/generate-request.js';
import type { FinishEvent, FinishReason } from '../requests/job-events.js';

export function stoppedBy(
  { stopTokenIds }: Pick<GenerateRequest, 'stopTokenIds'>,
  reason: FinishReason,
  found: string | null,
  lastId: number | undefined,
): Pick<FinishEvent, 'stop'> {
  if (reason === 'stop-string' && found !== null) return { stop: found };
  if (reason === 'end-id' && lastId !== undefined && stopTokenIds.includes(lastId)) return { stop: lastId };
  return {};
}
