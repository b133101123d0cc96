/**
 * How deep the brackets of a JSON text go, and how many there are. JSON.parse takes any: what walks its result (a reader of nested
 * parts, a message that quotes a value) has a stack, and three bytes of text, `{},`, become sixty of heap.
 *
 * In      JSON text, valid or not
 * Out     the depth: 0 for a number, 1 for `[]` and `{}`; or what is wrong with it
 * Limits  MAX_JSON_DEPTH, MAX_JSON_PARTS where they are asked for
 * Pure    yes
 */

/** As deep as the readers of the reference go (serde_json, of safetensors and tokenizers alike). */
export const MAX_JSON_DEPTH = 128;

/** Objects, arrays and members of objects: some 200 MB of heap. Numbers and texts in a list are not counted. */
export const MAX_JSON_PARTS = 2_097_152;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

export function jsonDepth(text: string): number {
  return jsonShape(text).depth;
}

/** `parts`: objects, arrays, members of objects. */
export function jsonShape(text: string): { depth: number; parts: number } {
  let depth = 0;
  let deepest = 0;
  let parts = 0;
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
        parts++;
        if (depth > deepest) deepest = depth;
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
      case 0x3a: // :
        parts++;
        break;
    }
  }
  return { depth: deepest, parts };
}

/** What is wrong with a text whose brackets go too deep, in words; null: nothing. */
export function tooDeep(text: string): string | null {
  const depth = jsonDepth(text);
  return depth > MAX_JSON_DEPTH ? `nested ${depth} deep, the limit is ${MAX_JSON_DEPTH}` : null;
}

/** The same, or has too many parts for the memory that they take. */
export function tooDeepOrMany(text: string): string | null {
  const { depth, parts } = jsonShape(text);
  if (depth > MAX_JSON_DEPTH) return `nested ${depth} deep, the limit is ${MAX_JSON_DEPTH}`;
  if (parts <= MAX_JSON_PARTS) return null;
  return `made of ${parts} objects, arrays and members, the limit is ${MAX_JSON_PARTS}`;
}
