/**
 * A small reader of Prometheus's text format 0.0.4, strict where a scraper is strict.
 *
 * In      the text
 * Out     families by name: type and samples; a sample's key is its name and sorted labels, as `name{a="1"}`
 * Errors  throws on a line that is none, a sample without its family, or a sample given twice
 */
export interface Family {
  type: string;
  help: string;
  samples: Map<string, number>;
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)/y;

export function parsePrometheus(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const families = new Map<string, Family>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    const family = families.get(name) ?? { type: '', help: '', samples: new Map<string, number>() };
    if (keyword === 'HELP') family.help = rest;
    else if (keyword === 'TYPE') family.type = rest;
    else {
      addSample(families, line);
      continue;
    }
    families.set(name, family);
  }
  return families;
}

function addSample(families: Map<string, Family>, line: string): void {
  const match = SAMPLE.exec(line);
  if (!match) throw new Error(`no sample: ${line}`);
  const [, name = '', labelText = '', valueText = ''] = match;
  const family = families.get(name) ?? families.get(name.replace(/_(?:bucket|sum|count)$/, ''));
  if (!family || family.type === '') throw new Error(`${name} has no TYPE before it`);
  const key = sampleKey(name, parseLabels(labelText));
  const value = valueText === '+Inf' ? Number.POSITIVE_INFINITY : Number(valueText);
  if (Number.isNaN(value) && valueText !== 'Nan' && valueText !== 'NaN') throw new Error(`no value: ${line}`);
  if (family.samples.has(key)) throw new Error(`twice: ${key}`);
  family.samples.set(key, value);
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const at = LABEL.lastIndex;
    const match = LABEL.exec(text);
    if (!match) throw new Error(`no label at ${at} of ${text}`);
    labels[match[1]!] = match[2]!;
  }
  return labels;
}

export function sampleKey(name: string, labels: Record<string, string | number>): string {
  const pairs = Object.entries(labels)
    .map(([label, value]) => `${label}="${value}"`)
    .sort();
  return pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`;
}

/** Value of one sample, whichever family it is of; undefined: there is none. */
export function sampleValue(
  families: Map<string, Family>,
  name: string,
  labels: Record<string, string | number> = {},
): number | undefined {
  const key = sampleKey(name, labels);
  for (const { samples } of families.values()) if (samples.has(key)) return samples.get(key);
  return undefined;
}
