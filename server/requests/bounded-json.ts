/**
 * JSON that is the text of a field: bounded as a body is.
 *
 * In      a text
 * Out     its value
 * Limits  those of proto/json-depth.ts
 * Errors  InvalidInput naming the field, and the limit and the value or that it is no JSON
 */
import { tooDeepOrMany } from '../../proto/json-depth.js';
import { InvalidInput } from './invalid-input.js';

/**
 * @param param the field, as errors name it; null: as none
 * @param otherwise of a text that is no JSON
 */
export function boundedJson(
  text: string,
  field: string,
  param: string | null,
  otherwise = 'is not JSON',
): unknown {
  const value = boundedJsonOrNone(text, field, param);
  if (value !== undefined) return value;
  throw new InvalidInput(`${field} ${otherwise}`, param);
}

/** undefined: it is no JSON. @throws InvalidInput: it is too deep, or has too many parts */
export function boundedJsonOrNone(text: string, field: string, param: string | null): unknown {
  const nested = tooDeepOrMany(text);
  if (nested !== null) throw new InvalidInput(`${field} is ${nested}`, param);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
