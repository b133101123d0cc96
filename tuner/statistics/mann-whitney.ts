/**
 * Whether two samples differ, whatever their distribution: Mann and Whitney's U.
 *
 * In      two samples
 * Out     the two-sided p: exact without ties and with at most EXACT_PAIRS pairs, else by the normal form with ties and continuity corrected
 * Source  Mann, Whitney 1947; the exact counts by their recursion
 */
const EXACT_PAIRS = 2500;

export function mannWhitney(a: readonly number[], b: readonly number[]): { u: number; p: number } {
  const all = [...a.map((value) => ({ value, isA: true })), ...b.map((value) => ({ value, isA: false }))];
  all.sort((one, other) => one.value - other.value);
  let rankSum = 0;
  let tieTerm = 0;
  for (let from = 0; from < all.length; ) {
    let to = from;
    while (to < all.length && all[to]!.value === all[from]!.value) to++;
    const rank = (from + 1 + to) / 2;
    rankSum += rank * all.slice(from, to).filter(({ isA }) => isA).length;
    const ties = to - from;
    tieTerm += ties ** 3 - ties;
    from = to;
  }
  const u = rankSum - (a.length * (a.length + 1)) / 2;
  if (tieTerm === 0 && a.length * b.length <= EXACT_PAIRS) return { u, p: exact(u, a.length, b.length) };
  const n = all.length;
  const middle = (a.length * b.length) / 2;
  const variance = ((a.length * b.length) / 12) * (n + 1 - tieTerm / (n * (n - 1)));
  if (variance === 0) return { u, p: 1 };
  const z = Math.max(0, Math.abs(u - middle) - 0.5) / Math.sqrt(variance);
  return { u, p: Math.min(1, 2 * normalAbove(z)) };
}

function exact(u: number, m: number, n: number): number {
  // ways[j][k]: orders of i of one and j of the other with U = k, built up over i.
  let ways: Float64Array[] = Array.from({ length: n + 1 }, () => Float64Array.of(1));
  for (let i = 1; i <= m; i++) {
    const next: Float64Array[] = [Float64Array.of(1)];
    for (let j = 1; j <= n; j++) {
      const counts = new Float64Array(i * j + 1);
      const withA = ways[j]!;
      const withB = next[j - 1]!;
      for (let k = 0; k < counts.length; k++) {
        counts[k] = (k >= j ? (withA[k - j] ?? 0) : 0) + (withB[k] ?? 0);
      }
      next.push(counts);
    }
    ways = next;
  }
  const counts = ways[n]!;
  const least = Math.min(u, m * n - u);
  let below = 0;
  let total = 0;
  counts.forEach((count, k) => {
    total += count;
    if (k <= least) below += count;
  });
  return Math.min(1, (2 * below) / total);
}

/** P(Z > z), z ≥ 0 (Abramowitz and Stegun 7.1.26 is too coarse: W. J. Cody's rational form by a continued fraction). */
export function normalAbove(z: number): number {
  if (z < 3) {
    // Series of the error function.
    let term = z;
    let sum = z;
    for (let n = 1; n < 200 && Math.abs(term) > 1e-17; n++) {
      term *= (-z * z) / (2 * n);
      sum += term / (2 * n + 1);
    }
    return 0.5 - sum / Math.sqrt(2 * Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n >= 1; n--) fraction = n / (z + fraction);
  return Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI) / (z + fraction);
}
