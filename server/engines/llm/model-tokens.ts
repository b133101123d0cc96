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
  return {
    contextLength,
    encode(prompt, addSpecialTokens, signal) {
      const piece =
        prompt.kind === 'text' && !addSpecialTokens ? encoder.encodePiece?.(prompt.text, signal) : undefined;
      return piece ?? encoder.encode(prompt, { signal });
    },
    decode(ids) {
      for (const id of ids) checkTokenId(id, vocabSize, 'tokens');
      const detokenizer = texts.detokenizer({ skipSpecialTokens: false, context: [] });
      return ids.map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
    },
    text: (id) => texts.tokenText(id),
  };
}
