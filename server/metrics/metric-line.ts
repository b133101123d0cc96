/** One value as DJLServing writes it to server_metric.log and model_metric.log: `Name.Unit:value|#dimension:of`. */

const MAX_VALUE_CHARACTERS = 128;

export function metricLine(name: string, unit: string, value: number, dimension: string, of: string): string {
  // A model's name comes from a path or a request: no line break may forge another line.
  const safe = of.replace(/[^\x21-\x7e]/g, '_').slice(0, MAX_VALUE_CHARACTERS);
  return `${name}.${unit}:${value}|#${dimension}:${safe}`;
}
