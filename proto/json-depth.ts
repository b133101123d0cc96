/**
 * How deep the brackets of a JSON text go. JSON.parse takes any depth; what walks its result (a reader of nested parts, a message
 * that quotes a value) has a stack.
 *
 * In      JSON text, valid
 * Out     the depth: 0 for a number, 1 for `[]` and `{}`; or what is wrong with it
 * Limits  MAX_JSON_DEPTH
 * Pure    yes
 */

/** As deep as the readers of the reference go (serde_json, of safetensors and tokenizers alike). */
export const MAX_JSON_DEPTH = 128;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

export function jsonDepth(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        for (at++; at < text.length && text.charCodeAt(at) !== QUOTE; at++) {
          if (text.charCodeAt(at) === BACKSLASH) at++;
        }
        break;
      case 0x5b: // [
      case 0x7b: // {
        depth++;
        if (depth > deepest) deepest = depth;
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
    }
  }
  return deepest;
}

/** What is wrong with a text whose brackets go too deep, in words; null: nothing. */
export function tooDeep(text: string): string | null {
  const depth = jsonDepth(text);
  return depth > MAX_JSON_DEPTH ? `nested ${depth} deep, the limit is ${MAX_JSON_DEPTH}` : null;
}
