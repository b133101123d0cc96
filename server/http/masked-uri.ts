/**
 * A request's path and query as logs may keep them: without what looks like a secret.
 *
 * In      the path and query as a client sent them
 * Out     the same, with `***` for the value of a parameter that is named like a key, and without user, password and query in a
 *         value that is a URL, also one that is encoded, as `POST /models?url=` has it
 */
const SECRET_NAME =
  /(?:^|[-_.])(?:sig|auth|token|pwd)$|key(?:[-_]?id)?$|secret|passw|signature|credential|authorization|security[-_]?token/i;
const PAGE_TOKEN = 'next_page_token';
const MASK = '***';

export function maskedUri(uri: string): string {
  const at = uri.indexOf('?');
  if (at < 0) return uri;
  const pairs = uri
    .slice(at + 1)
    .split('&')
    .map((pair) => {
      const equals = pair.indexOf('=');
      if (equals < 0) return maskedValue(pair);
      const [name, value] = [pair.slice(0, equals), pair.slice(equals + 1)];
      const plain = decoded(name);
      const isSecret = plain !== PAGE_TOKEN && SECRET_NAME.test(plain);
      return `${name}=${isSecret ? MASK : maskedValue(value)}`;
    });
  return `${uri.slice(0, at)}?${pairs.join('&')}`;
}

function maskedValue(value: string): string {
  const url = /^([a-z][a-z0-9+.-]*:\/\/)(?:[^/?#]*@)?([^?#]*)/i.exec(decoded(value).trimStart());
  if (url === null) return value;
  const [, scheme = '', place = ''] = url;
  return encodeURIComponent(scheme + place);
}

/** As often as it takes: a proxy may have encoded it once more. */
function decoded(text: string): string {
  let plain = text;
  for (let round = 0; round < 4 && plain.includes('%'); round++) {
    try {
      plain = decodeURIComponent(plain);
    } catch {
      return plain;
    }
  }
  return plain;
}
