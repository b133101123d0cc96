/**
 * JSON that is the text of a field: bounded as a body is.
 *
 * In      a text
 * Out     its value
 * Limits  those of proto/json-depth.ts
 * Errors  InvalidInput naming the field, the limit and the value; SyntaxError: it is no JSON
 */
import { tooDeepOrMany } from '../../proto/json-depth.js';
import { InvalidInput } from './invalid-input.js';

/** @param param the field, as errors name it; null: as none */
export function boundedJson(text: string, field: string, param: string | null): unknown {
  const nested = tooDeepOrMany(text);
  if (nested !== null) throw new InvalidInput(`${field} is ${nested}`, param);
  return JSON.parse(text) as unknown;
}
