/**
 * The tokenizer of a language model for who asks it alone.
 *
 * In      the model's files; prompts, ids
 * Out     ModelTokens
 * Errors  those of prompt-encoder.ts; BAD_REQUEST: an id outside the vocabulary
 */
import type { ModelTokens } from '../../requests/model-tokens.js';
import type { LlmFiles } from './prepare-model.js';
import { checkTokenId } from './sampling.js';

export function modelTokens({ encoder, manifest, texts }: LlmFiles, contextLength: number): ModelTokens {
  const { vocabSize } = manifest.model;
  const pieces = (ids: readonly number[]): string[] => {
    const detokenizer = texts.detokenizer({ skipSpecialTokens: false, context: [] });
    const all = ids.map((id) => detokenizer.push(id));
    const rest = detokenizer.flush();
    return rest === '' ? all : [...all.slice(0, -1), (all.at(-1) ?? '') + rest];
  };
  return {
    contextLength,
    encode(prompt, addSpecialTokens, signal) {
      const piece =
        prompt.kind === 'text' && !addSpecialTokens ? encoder.encodePiece?.(prompt.text, signal) : undefined;
      return piece ?? encoder.encode(prompt, { signal });
    },
    decode(ids) {
      for (const id of ids) checkTokenId(id, vocabSize, 'tokens');
      return pieces(ids).join('');
    },
    pieces,
    text: (id) => texts.tokenText(id),
  };
}
