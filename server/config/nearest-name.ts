/**
 * The known name that a mistyped one most likely meant.
 *
 * Limits  names of at most MAX_NAME_CHARS; a name further away than a third of its length is no suggestion, unless the caller says how far
 * Source  Levenshtein distance by rows (Wagner and Fischer, 1974), whatever the case
 */
const MAX_NAME_CHARS = 128;

function distance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}

/**
 * @param furthest letters that may differ
 * @returns the nearest of `names` (the first of equals), or null when none is near
 */
export function nearestName(
  given: string,
  names: Iterable<string>,
  // Where every letter may differ, anything is near.
  furthest = Math.min(given.length - 1, Math.max(2, Math.floor(given.length / 3))),
): string | null {
  if (given.length > MAX_NAME_CHARS) return null;
  let best: string | null = null;
  let bestDistance = furthest + 1;
  for (const name of names) {
    if (Math.abs(name.length - given.length) >= bestDistance) continue;
    const between = distance(given.toLowerCase(), name.toLowerCase());
    if (between < bestDistance) {
      best = name;
      bestDistance = between;
    }
  }
  return best;
}
