/**
 * The server's own metrics, before and after: queue, time in the model, time of ranks in steps.
 *
 * In      a URL of Prometheus's text format 0.0.4
 * Out     samples by name and labels; differences between two looks
 * Limits  MAX_BYTES, LIMIT_MS; a server without metrics gives none, and what comes of them is not told
 * Source  server/metrics/llm-rows.ts by its names; vLLM's names for the same where a peer has those
 */
import type { RankProfile } from '../run/measurement.js';

const MAX_BYTES = 32 * 2 ** 20;
const LIMIT_MS = 10_000;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}
export type Scrape = ReadonlyMap<string, readonly Sample[]>;

/** null: there are none. */
export async function scrape(url: string, headers: Record<string, string>): Promise<Scrape | null> {
  try {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(LIMIT_MS) });
    if (!response.ok) return null;
    const text = await response.text();
    return text.length > MAX_BYTES ? null : parseSamples(text);
  } catch {
    return null;
  }
}

export function parseSamples(text: string): Scrape {
  const found = new Map<string, Sample[]>();
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : SAMPLE.exec(line);
    if (!match) continue;
    const [, name = '', labels = '', value = ''] = match;
    const sample = {
      labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, text]) => [key!, text!])),
      value: value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value),
    };
    const samples = found.get(name);
    if (samples) samples.push(sample);
    else found.set(name, [sample]);
  }
  return found;
}

const MEANS = {
  queue: ['shardserve_queue_time_seconds', 'vllm:request_queue_time_seconds'],
  request: ['shardserve_request_duration_seconds', 'vllm:e2e_request_latency_seconds'],
} as const;

/** Milliseconds, the mean of what came between two looks; null: nothing, or no such metric. */
export function meanMs(
  before: Scrape,
  after: Scrape,
  what: keyof typeof MEANS,
  model: string,
): number | null {
  for (const name of MEANS[what]) {
    const sum = (scraped: Scrape, suffix: string): number =>
      (scraped.get(`${name}${suffix}`) ?? [])
        .filter(({ labels }) => (labels.model ?? labels.model_name ?? model) === model)
        .reduce((total, { value }) => total + value, 0);
    const count = sum(after, '_count') - sum(before, '_count');
    if (count > 0) return (1000 * (sum(after, '_sum') - sum(before, '_sum'))) / count;
  }
  return null;
}

/** Where each rank's time went. */
export function rankProfiles(before: Scrape, after: Scrape, wallMs: number): RankProfile[] {
  const key = ({ labels }: Sample) => `${labels.model}/${labels.group}/${labels.rank}/${labels.part ?? ''}`;
  const then = (name: string) =>
    new Map((before.get(name) ?? []).map((sample) => [key(sample), sample.value]));
  const profiles = new Map<string, RankProfile>();
  const stepsBefore = then('shardserve_rank_steps_total');
  for (const sample of after.get('shardserve_rank_steps_total') ?? []) {
    const { group = '', model = '', rank = '' } = sample.labels;
    profiles.set(`${model}/${group}/${rank}`, {
      ...{ model, group, rank, compute_ms: 0, collective_ms: 0, choose_ms: 0, idle_ms: 0 },
      steps: sample.value - (stepsBefore.get(key(sample)) ?? 0),
    });
  }
  const partsBefore = then('shardserve_rank_step_seconds_total');
  for (const sample of after.get('shardserve_rank_step_seconds_total') ?? []) {
    const { group, model, part, rank } = sample.labels;
    const profile = profiles.get(`${model}/${group}/${rank}`);
    const spentMs = 1000 * (sample.value - (partsBefore.get(key(sample)) ?? 0));
    if (profile && part === 'compute') profile.compute_ms = spentMs;
    if (profile && part === 'collective') profile.collective_ms = spentMs;
    if (profile && part === 'choose') profile.choose_ms = spentMs;
  }
  return [...profiles.values()].map((profile) => ({
    ...profile,
    idle_ms: Math.max(0, wallMs - profile.compute_ms - profile.collective_ms - profile.choose_ms),
  }));
}
