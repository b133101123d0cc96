/**
 * How long a server of ours took to load its first group: from its log lines.
 *
 * In      the server's lines as they come; bytes of each rank's weights
 * Out     a sentence: the group's time from its start to its last rank's readiness, each rank's loading (the files' check included) and warm-up
 */
export class LoadingTimes {
  #startedMs = Number.NaN;
  #readyMs = Number.NaN;
  readonly #ranks: { rank: number; loadMs: number; warmUpMs: number }[] = [];

  take(line: string): void {
    if (!line.startsWith('{')) return;
    const { loadMs, msg, rank, time, warmUpMs } = JSON.parse(line) as Record<string, unknown>;
    const at = typeof time === 'number' ? time : Date.parse(String(time));
    if (msg === 'worker group starts' && Number.isNaN(this.#startedMs)) this.#startedMs = at;
    if (msg !== 'shard worker ready' || typeof loadMs !== 'number' || typeof warmUpMs !== 'number') return;
    this.#readyMs = Number.isNaN(this.#readyMs) ? at : Math.max(this.#readyMs, at);
    this.#ranks.push({ rank: Number(rank), loadMs, warmUpMs });
  }

  sentence(weightBytes: readonly number[]): string {
    const ranks = this.#ranks
      .toSorted((a, b) => a.rank - b.rank)
      .map(({ loadMs, rank, warmUpMs }) => {
        const speed = ((weightBytes[rank] ?? Number.NaN) / 1e6 / loadMs).toFixed(2);
        return `rank ${rank} ${loadMs} ms (${speed} GB/s), warm after ${warmUpMs} more`;
      });
    return `loading: the group ready after ${((this.#readyMs - this.#startedMs) / 1000).toFixed(2)} s; ${ranks.join('; ')}`;
  }
}
