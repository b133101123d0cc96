/**
 * Which segment attends: apart from the manifest's schema, which a rank does without (shard-worker/read-manifest.ts).
 *
 * In      the manifest's `attend`
 * Out     the segment for given queries
 */
import type { Attend, AttendVariant } from './attend.js';

/** The segment of a layer with this window for such queries; undefined: the shards have none. */
export function attendSegment(
  { variants }: Pick<Attend, 'variants'>,
  queries: AttendVariant['when']['queries'],
  window: number | null = null,
): string | undefined {
  const fits = ({ when }: AttendVariant): boolean =>
    when.queries === queries && (when.window === undefined || when.window === window);
  return variants.find(fits)?.segment;
}
