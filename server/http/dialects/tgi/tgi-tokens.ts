/**
 * Text Generation Inference's list of a prompt's tokens: /tokenize with "inputs", /chat_tokenize.
 *
 * In      a prompt; how many of its last tokens are asked for
 * Out     [{"id", "text", "start", "stop"}]: where each stands in the text, in characters; a special token that the tokenizer puts around it
 *         has no text and stands at 0
 * Limits  those of a prompt
 * Errors  those of the tokenizer
 * Source  Text Generation Inference's router: shapes. Its places are those of the text that was sent, ours of the text that the ids are;
 *         these differ where a tokenizer changes what it reads (small letters, spaces)
 */
import type { Prompt } from '../../../requests/generate-request.js';
import type { ModelTokens } from '../../../requests/model-tokens.js';

export interface TgiToken {
  id: number;
  text: string;
  start: number;
  stop: number;
}

export async function tgiTokens(
  tokens: ModelTokens,
  prompt: Prompt,
  truncate: number | undefined,
  signal: AbortSignal,
): Promise<TgiToken[]> {
  const ids = await tokens.encode(prompt, true, signal);
  const own = prompt.kind === 'text' ? await tokens.encode(prompt, false, signal) : ids;
  const from = placeOf(own, ids);
  const pieces = tokens.pieces(ids.slice(from, from + own.length));
  let stop = 0;
  const all = ids.map((id, index): TgiToken => {
    const text = pieces[index - from];
    if (text === undefined) return { id, text: '', start: 0, stop: 0 };
    const start = stop;
    stop += [...text].length;
    return { id, text, start, stop };
  });
  return truncate === undefined || truncate < 0 ? all : all.slice(-truncate);
}

/** Where a list stands in a longer one; 0: nowhere. */
function placeOf(own: readonly number[], all: readonly number[]): number {
  for (let from = all.length - own.length; from > 0; from--)
    if (own.every((id, index) => all[from + index] === id)) return from;
  return 0;
}
