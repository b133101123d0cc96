/**
 * A log event as a person reads it on a terminal: one line; of a bug its stack below.
 *
 * In      the JSON that pino writes
 * Out     `12:03:04 WARN  message  field=value …`
 * Limits  MAX_VALUE_CHARACTERS a value; what would move the cursor, colour, break or turn the line is written as its code: names and ids
 *         are a client's
 * Errors  none; what is no event is passed on as it is
 */
const LEVELS: readonly (readonly [number, string, string])[] = [
  [50, 'ERROR', '\u001b[31m'],
  [40, 'WARN ', '\u001b[33m'],
  [30, 'INFO ', ''],
  [20, 'DEBUG', '\u001b[2m'],
  [0, 'TRACE', '\u001b[2m'],
];
const RESET = '\u001b[0m';
const MAX_VALUE_CHARACTERS = 120;
/** Told by the line itself, or the same in every line. */
const LEFT_OUT = ['level', 'time', 'pid', 'hostname', 'msg', 'err', 'v'];

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

interface LoggedError {
  code?: unknown;
  message?: unknown;
  stack?: unknown;
  type?: unknown;
}

/** @param isColoured no terminal that shows colours: false */
export function terminalLine(json: string, isColoured: boolean): string {
  let event: Record<string, unknown>;
  try {
    event = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return json;
  }
  const [, name, colour] = LEVELS.find(([least]) => Number(event.level) >= least) ?? LEVELS[2]!;
  const time = new Date(Number(event.time)).toTimeString().slice(0, 8);
  const fields = Object.entries(event).filter(([field]) => !LEFT_OUT.includes(field));
  const message = printable(String(event.msg ?? ''));
  const { reason, stack } = told(event.err as LoggedError | undefined, message);
  const line = [message, ...reason, ...fields.map(([field, value]) => `${field}=${shown(value)}`)].join('  ');
  const coloured = isColoured && colour !== '' ? `${colour}${name} ${line}${RESET}` : `${name} ${line}`;
  return `${time} ${coloured}\n${stack}`;
}

/** An operating error is its sentence; where its stack would help, it is a bug. */
function told(error: LoggedError | undefined, message: string): { reason: string[]; stack: string } {
  if (!error) return { reason: [], stack: '' };
  const sentence = withoutKnown(printable(String(error.message ?? '')), message);
  const reason = sentence === '' ? [] : [sentence];
  const isBug = error.type !== 'ServingError' || error.code === 'INTERNAL';
  return { reason, stack: isBug && typeof error.stack === 'string' ? `${lines(error.stack)}\n` : '' };
}

const printable = (text: string): string =>
  text.replace(CONTROLS, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);

const lines = (text: string): string => text.split('\n').map(printable).join('\n');

/** pino puts an error's causes behind it, with colons: what the message says already is left out. */
function withoutKnown(sentence: string, message: string): string {
  if (message.includes(sentence)) return '';
  for (let at = sentence.lastIndexOf(': '); at > 0; at = sentence.lastIndexOf(': ', at - 1)) {
    if (message.includes(sentence.slice(0, at))) return withoutKnown(sentence.slice(at + 2), message);
  }
  return sentence;
}

function shown(value: unknown): string {
  const text = printable(typeof value === 'string' ? value : JSON.stringify(value));
  return text.length > MAX_VALUE_CHARACTERS ? `${text.slice(0, MAX_VALUE_CHARACTERS)}…` : text;
}
