/**
 * What kind of archive a file is, by its first bytes: an extension is only somebody's word.
 *
 * Source  RFC 1952 (gzip), PKWARE APPNOTE 4.3.7 (zip), POSIX ustar: `ustar` at byte 257
 */

export type ArchiveKind = 'tar' | 'gzip' | 'zip';

/** So many bytes decide. */
export const ARCHIVE_HEAD_BYTES = 262;

/** @returns null: no archive that can be unpacked */
export function archiveKind(head: Buffer): ArchiveKind | null {
  if (head.length >= 3 && head[0] === 0x1f && head[1] === 0x8b && head[2] === 8) return 'gzip';
  if (head.length >= 4 && ['PK\x03\x04', 'PK\x05\x06'].includes(head.toString('latin1', 0, 4))) return 'zip';
  if (head.toString('latin1', 257, 262) === 'ustar') return 'tar';
  return null;
}
