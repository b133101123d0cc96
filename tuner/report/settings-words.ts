/** A configuration in words: "workers=2 batch_size=8"; the default is what the server does by itself. */
import type { Settings } from '../space/space.js';

export function settingsWords(settings: Settings, models: readonly string[]): string {
  const entries = Object.entries(settings);
  if (entries.length === 0) return "the server's defaults";
  return entries
    .map(([name, value]) => {
      const model = models.find((one) => name.startsWith(`${one}.`));
      const key = model !== undefined && models.length === 1 ? name.slice(model.length + 1) : name;
      return `${key}=${value}`;
    })
    .join(' ');
}
