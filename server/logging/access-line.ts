/**
 * One response as DJLServing's access.log has it: `2024-05-01 12:00:00 127.0.0.1 "POST /predictions/m HTTP/1.1" 200 35`.
 *
 * Out     one line; what a client chose of it (the path) cannot break the line or its quotes
 * Source  DJLServing's access.log
 */

const MAX_URI_CHARACTERS = 2048;

export interface ResponseFacts {
  ip: string;
  /** The client's. */
  port?: number;
  method: string;
  /** Path and query, as the client sent them. */
  uri: string;
  /** `1.1` */
  httpVersion: string;
  status: number;
  /** From the request's head to the response's end. */
  durationMs: number;
}

/** @param at in local time, as DJLServing's log has it */
export function accessLine(response: ResponseFacts, at: Date): string {
  return `${localTime(at)} ${response.ip} ${accessRequest(response)}`;
}

/** What was asked and answered: `"POST /predictions/m HTTP/1.1" 200 35`. */
export function accessRequest(response: ResponseFacts): string {
  const { durationMs, httpVersion, method, status } = response;
  const uri = response.uri.slice(0, MAX_URI_CHARACTERS).replace(/["\\]|[^\x21-\x7e]/g, escapeCharacter);
  return `"${method} ${uri} HTTP/${httpVersion}" ${status} ${Math.round(durationMs)}`;
}

/** `yyyy-MM-dd HH:mm:ss` */
export function localTime(at: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** By the character's bytes in UTF-8; half of a pair has none of its own. */
function escapeCharacter(character: string): string {
  const bytes = new TextEncoder().encode(character);
  return Array.from(bytes, (byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('');
}
