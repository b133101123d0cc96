/**
 * A model archive at an http(s) URL.
 *
 * In      a URL; the list of allowed hosts (empty: off)
 * Out     a plan whose identity is the URL with ETag, or Last-Modified, and length
 * Limits  maxDownloadBytes, announced and received; hosts, addresses and redirects as guarded-http.ts has them
 * Errors  MODEL_NOT_FOUND unreachable, refused or not there; BAD_REQUEST host not allowed, too large;
 *         CHECKPOINT_INVALID no archive, changed while it was downloaded
 * Source  RFC 9110 §13.1.5 (If-Range), §14 (ranges)
 */
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { ARCHIVE_HEAD_BYTES, archiveKind } from './archive-kind.js';
import type { CacheRecord } from './cache-records.js';
import { downloadFile, type RemoteBody } from './download-file.js';
import type { FetchPlan } from './fetch-plan.js';
import type { FetchPolicy } from './fetch-policy.js';
import { guardedGet, type HttpAnswer, type HttpGuard, TransportError } from './guarded-http.js';
import { hostRule } from './host-policy.js';
import type { ParsedModelUrl } from './model-source.js';

/** Its bytes decide what it is; the extension only says that it is an archive. */
const DOWNLOAD_NAME = 'download.tar';

/** @throws ServingError */
export async function planHttp(
  url: URL,
  { display, suggestedName }: ParsedModelUrl,
  policy: FetchPolicy,
  signal: AbortSignal | undefined,
  known: CacheRecord | null = null,
): Promise<FetchPlan> {
  if (policy.allowedHosts.length === 0) {
    throw new ServingError(
      'BAD_REQUEST',
      `Models are not downloaded by http(s): the list of allowed hosts is empty (${display})`,
    );
  }
  const guard: HttpGuard = { rule: (asked) => hostRule(asked, policy.allowedHosts) };
  let first: HttpAnswer | null;
  try {
    const validator = known?.validator ?? null;
    const condition = validator?.startsWith('"') ? { 'if-none-match': validator } : null;
    first = await ask(url, display, condition ?? {}, guard, signal);
    if (first.status === 304 && known !== null) {
      first.body.destroy();
      return unchanged(display, suggestedName, known);
    }
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
    throw new ServingError('MODEL_NOT_FOUND', `${display}: ${error.message}`, { cause: error });
  }
  const validator = validatorOf(first);
  const totalBytes = lengthOf(first);
  if ((totalBytes ?? 0) > policy.maxDownloadBytes) {
    first.body.destroy();
    throw new ServingError(
      'BAD_REQUEST',
      `${display} has ${totalBytes} bytes, at most ${policy.maxDownloadBytes} may be downloaded`,
    );
  }
  const close = (): void => {
    first?.body.destroy();
    first = null;
  };
  const open = async (offset: number, openSignal: AbortSignal): Promise<RemoteBody> => {
    if (offset === 0 && first !== null) {
      const { body } = first;
      first = null;
      openSignal.addEventListener('abort', () => body.destroy(new Error('aborted')), { once: true });
      return { stream: body, start: 0, totalBytes };
    }
    close();
    const range: Record<string, string> =
      offset > 0 && validator !== null ? { range: `bytes=${offset}-`, 'if-range': validator } : {};
    const answer = await ask(url, display, range, guard, openSignal);
    if (validatorOf(answer) !== validator) {
      answer.body.destroy();
      throw new ServingError('CHECKPOINT_INVALID', `${display} changed while it was downloaded`);
    }
    const start = answer.status === 206 ? rangeStart(answer) : 0;
    return { stream: answer.body, start, totalBytes };
  };
  return {
    display,
    suggestedName,
    identity: validator === null ? null : `${url.href}\n${validator}\n${totalBytes}`,
    validator,
    localArchive: null,
    close,
    fill: async (folder, context) => {
      await downloadFile({
        display,
        target: path.join(folder, DOWNLOAD_NAME),
        maxBytes: policy.maxDownloadBytes,
        expectedBytes: null,
        open: (offset) => open(offset, context.signal),
        signal: context.signal,
        onProgress: (doneBytes, total) =>
          context.onProgress({ stage: 'download', doneBytes, totalBytes: total }),
        checkHead: {
          headBytes: ARCHIVE_HEAD_BYTES,
          check: (head) => {
            if (archiveKind(head) !== null) return;
            throw new ServingError('CHECKPOINT_INVALID', `${display} is no tar, tar.gz or zip archive`);
          },
        },
      });
    },
  };
}

/** The server says that the cached content is the newest. */
const unchanged = (
  display: string,
  suggestedName: string,
  { identity, validator }: CacheRecord,
): FetchPlan => ({
  ...{ display, suggestedName, identity, validator, localArchive: null },
  close: () => undefined,
  fill: async () => {
    throw new ServingError(
      'MODEL_NOT_FOUND',
      `${display} has left the cache while it was looked up: ask again`,
    );
  },
});

async function ask(
  url: URL,
  display: string,
  headers: Record<string, string>,
  guard: HttpGuard,
  signal: AbortSignal | undefined,
): Promise<HttpAnswer> {
  const answer = await guardedGet(url, headers, guard, signal);
  const { status } = answer;
  if (status === 200 || (status === 206 && 'range' in headers)) return answer;
  if (status === 304 && 'if-none-match' in headers) return answer;
  answer.body.destroy();
  if (status === 429 || status >= 500) throw new TransportError(`the server answers ${status}`);
  throw new ServingError('MODEL_NOT_FOUND', `${display}: the server answers ${status}`);
}

/** A strong ETag or a date: names the bytes. null: the server promises nothing. */
function validatorOf({ headers }: HttpAnswer): string | null {
  if (headers.etag?.startsWith('"')) return headers.etag;
  return headers.etag === undefined ? (headers['last-modified'] ?? null) : null;
}

function lengthOf({ headers }: HttpAnswer): number | null {
  const length = headers['content-length'];
  return length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : null;
}

function rangeStart({ headers }: HttpAnswer): number {
  const [, start] = /^bytes (\d{1,15})-/.exec(headers['content-range'] ?? '') ?? [];
  if (start === undefined) throw new TransportError('the answer to a range says not which');
  return Number(start);
}
