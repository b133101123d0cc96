/**
 * Java's .properties syntax, with the line of every key.
 *
 * In      the text of a file (UTF-8)
 * Out     key, value and line number, in order; a key given twice stands there twice
 * Limits  MAX_FILE_BYTES; comments `#` and `!`; `=`, `:` or white space divides key and value; a backslash at the end of a
 *         line continues it, leading white space of the next line is dropped; escapes \t \n \r \f \uXXXX, any other
 *         character after a backslash stands for itself
 * Errors  PropertiesSyntaxError for a malformed \uXXXX, an empty key, or too large a file
 * Source  java.util.Properties.load; own code, since no kept library returns line numbers
 */
export interface Property {
  readonly key: string;
  readonly value: string;
  /** The line that the key stands on; the first is 1. */
  readonly line: number;
}

export class PropertiesSyntaxError extends Error {
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

export const MAX_FILE_BYTES = 1024 * 1024;

const ESCAPES: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r', f: '\f' };

/** Reads the whole file. */
export function parseProperties(text: string): Property[] {
  if (text.length > MAX_FILE_BYTES) {
    throw new PropertiesSyntaxError(
      1,
      `the file has ${text.length} characters, at most ${MAX_FILE_BYTES} are read`,
    );
  }
  const properties: Property[] = [];
  const lines = text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/);
  for (let index = 0; index < lines.length; index++) {
    const line = index + 1;
    let logical = lines[index]!.trimStart();
    if (logical === '' || logical.startsWith('#') || logical.startsWith('!')) continue;
    while (endsInContinuation(logical)) {
      index += 1;
      logical = logical.slice(0, -1) + (lines[index] ?? '').trimStart();
    }
    properties.push(parseLine(logical, line));
  }
  return properties;
}

/** An odd number of backslashes at the end: the last one is not itself escaped. */
function endsInContinuation(line: string): boolean {
  return /\\*$/.exec(line)![0].length % 2 === 1;
}

function parseLine(logical: string, line: number): Property {
  let end = 0;
  while (end < logical.length && !/[=:\s]/.test(logical[end]!)) end += logical[end] === '\\' ? 2 : 1;
  const separator = /^\s*[=:]?\s*/.exec(logical.slice(end))![0];
  const key = decodeEscapes(logical.slice(0, end), line);
  if (key === '') throw new PropertiesSyntaxError(line, 'there is no key before the separator');
  // Java keeps blanks at the end of a value, and they are never meant.
  return { key, value: decodeEscapes(logical.slice(end + separator.length).trimEnd(), line), line };
}

function decodeEscapes(text: string, line: number): string {
  return text.replace(/\\(u[0-9a-fA-F]{4}|.|$)/gs, (_, code: string) => {
    if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    if (code === 'u') throw new PropertiesSyntaxError(line, '\\u needs four hexadecimal digits');
    return ESCAPES[code] ?? code;
  });
}
