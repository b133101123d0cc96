/**
 * A value in TorchServe's form, written and read: `Name.Unit:value|#Dimension:value,…|#hostname:h,timestamp:t`.
 *
 * In      a metric, its value and dimensions; lines of handlers, which end in `|type:counter`
 * Out     one line; what a line says, or null
 * Limits  MAX_DIMENSIONS, MAX_TEXT a value: a handler's lines become labels
 * Source  TorchServe's metric log
 */
const MAX_DIMENSIONS = 16;
const MAX_TEXT = 128;
const LINE = /^(\w{1,128})\.([\w/ ]{0,32}):(-?[\d.]+(?:e[+-]?\d+)?)\|#([^|]*)(?:\|#?type:(\w+))?/i;

export type Dimensions = Readonly<Record<string, string>>;
export type MetricKind = 'counter' | 'gauge' | 'histogram';

export interface ToldMetric {
  name: string;
  unit: string;
  value: number;
  dimensions: Dimensions;
  kind: MetricKind;
}

export interface MetricOrigin {
  host: string;
  atMs: number;
}

export function metricText(
  { dimensions, name, unit, value }: Omit<ToldMetric, 'kind'>,
  { atMs, host }: MetricOrigin,
): string {
  const told = Object.entries(dimensions).map(([key, text]) => `${key}:${safe(text)}`);
  // TorchServe writes its numbers as Java's doubles.
  const number = Number.isInteger(value) ? value.toFixed(1) : String(value);
  return `${name}.${unit}:${number}|#${told.join(',')}|#hostname:${safe(host)},timestamp:${Math.floor(atMs / 1000)}`;
}

/** null: it is none. */
export function metricOf(line: string): ToldMetric | null {
  const [, name, unit = '', given, listed = '', kind = 'counter'] = LINE.exec(line) ?? [];
  const value = Number(given);
  if (name === undefined || !Number.isFinite(value)) return null;
  const pairs = listed.split(',').filter((pair) => pair !== '');
  if (pairs.length > MAX_DIMENSIONS) return null;
  const dimensions: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf(':');
    const key = pair.slice(0, at);
    if (at < 1 || !/^[A-Za-z_]\w{0,63}$/.test(key) || key.startsWith('__')) return null;
    dimensions[key] = safe(pair.slice(at + 1));
  }
  const isKind = kind === 'counter' || kind === 'gauge' || kind === 'histogram';
  return isKind ? { name, unit, value, dimensions, kind } : null;
}

/** No line break may forge another line, no comma another dimension. */
const safe = (text: string): string => text.replace(/[^\x21-\x7e]|[,|#]/g, '_').slice(0, MAX_TEXT);
