/**
 * A model at an S3 prefix, or one archive at an S3 key.
 *
 * In      bucket and prefix; endpoint; credentials and region as the AWS SDK finds them (environment, profile, role)
 * Out     a plan whose identity is the listing: keys, ETags, sizes
 * Limits  maxEntries objects, maxDownloadBytes together; keys are relative paths as in an archive
 * Errors  CONFIG_INVALID the SDK is not installed; MODEL_NOT_FOUND unreachable, denied or empty; BAD_REQUEST a limit;
 *         CHECKPOINT_INVALID an odd key, a changed or damaged object
 *
 * The SDK is an optional peer: it is large, and few installations have models on S3.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { ServingError } from '../../proto/errors.js';
import { lateImport } from '../../proto/late-import.js';
import { downloadFile, type RemoteBody } from './download-file.js';
import { EntryPolicy } from './entry-policy.js';
import type { FetchPlan } from './fetch-plan.js';
import type { FetchPolicy } from './fetch-policy.js';
import { TransportError } from './guarded-http.js';
import type { ParsedModelUrl } from './model-source.js';
import { verifyDigests } from './verify-digests.js';
import type { FileDigest } from './verify-files.js';

type S3Sdk = typeof import('@aws-sdk/client-s3');

interface S3Object {
  key: string;
  /** Relative to the prefix, checked. */
  file: string;
  bytes: number;
  etag: string;
}

/** @throws ServingError CONFIG_INVALID */
export async function loadS3Sdk(
  load = (): Promise<S3Sdk> => lateImport(() => import('@aws-sdk/client-s3')),
): Promise<S3Sdk> {
  try {
    return await load();
  } catch (cause) {
    throw new ServingError(
      'CONFIG_INVALID',
      's3:// needs the package @aws-sdk/client-s3, which is not installed: npm install @aws-sdk/client-s3',
      { cause },
    );
  }
}

/** @throws ServingError */
export async function planS3(
  { bucket, prefix }: { bucket: string; prefix: string },
  { display, suggestedName }: ParsedModelUrl,
  policy: FetchPolicy,
  signal: AbortSignal | undefined,
): Promise<FetchPlan> {
  const sdk = await loadS3Sdk();
  const region = process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION;
  const client = new sdk.S3Client({
    ...(region === undefined ? { region: 'us-east-1' } : { region }),
    followRegionRedirects: true,
    ...(policy.s3Endpoint === null ? {} : { endpoint: policy.s3Endpoint, forcePathStyle: true }),
  });
  let objects: S3Object[];
  try {
    objects = await listObjects(sdk, client, bucket, prefix, display, policy, signal);
  } catch (error) {
    client.destroy();
    throw asServingError(error, display, signal);
  }
  const listing = objects.map(({ bytes, etag, key }) => `${key}\n${etag}\n${bytes}`);
  return {
    display,
    suggestedName,
    identity: [policy.s3Endpoint ?? '', bucket, ...listing].join('\n'),
    localArchive: null,
    close: () => client.destroy(),
    fill: async (folder, context) => {
      const totalBytes = objects.reduce((sum, { bytes }) => sum + bytes, 0);
      const digests: FileDigest[] = [];
      let before = 0;
      for (const object of objects) {
        const target = path.join(folder, object.file);
        await mkdir(path.dirname(target), { recursive: true });
        await downloadFile({
          display: `${display} (${object.file})`,
          target,
          maxBytes: object.bytes,
          expectedBytes: object.bytes,
          open: (offset) => openObject(sdk, client, bucket, object, offset, digests, context.signal, display),
          signal: context.signal,
          onProgress: (done) =>
            context.onProgress({ stage: 'download', doneBytes: before + done, totalBytes }),
        });
        before += object.bytes;
      }
      await verifyDigests(folder, digests, context);
    },
  };
}

async function listObjects(
  sdk: S3Sdk,
  client: S3Client,
  bucket: string,
  prefix: string,
  display: string,
  policy: FetchPolicy,
  signal: AbortSignal | undefined,
): Promise<S3Object[]> {
  const isFolder = prefix === '' || prefix.endsWith('/');
  // The rules of an archive: keys are somebody's names too.
  const rules = new EntryPolicy(
    { maxEntries: policy.maxEntries, maxUnpackedBytes: policy.maxDownloadBytes, maxCompressionRatio: 1 },
    0,
  );
  const objects: S3Object[] = [];
  let token: string | undefined;
  do {
    const page = await client.send(
      new sdk.ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }),
      signal ? { abortSignal: signal } : {},
    );
    for (const { ETag: etag = '', Key: key = '', Size: bytes = -1 } of page.Contents ?? []) {
      // Some tools keep an empty object for every folder; beside an archive lie keys that only start like it.
      if (key.endsWith('/') || (!isFolder && key !== prefix)) continue;
      const name = isFolder ? key.slice(prefix.length) : path.posix.basename(key);
      const file = rules.admit({ name, kind: 'file', declaredBytes: bytes });
      objects.push({ key, file: file!, bytes, etag });
    }
    token = page.IsTruncated ? page.NextContinuationToken : undefined;
  } while (token !== undefined);
  if (objects.length === 0) throw new ServingError('MODEL_NOT_FOUND', `${display}: there is nothing there`);
  return objects;
}

async function openObject(
  sdk: S3Sdk,
  client: S3Client,
  bucket: string,
  object: S3Object,
  offset: number,
  digests: FileDigest[],
  signal: AbortSignal,
  display: string,
): Promise<RemoteBody> {
  const { bytes, etag, file, key } = object;
  try {
    const answer = await client.send(
      new sdk.GetObjectCommand({
        Bucket: bucket,
        Key: key,
        IfMatch: etag,
        ...(offset > 0 ? { Range: `bytes=${offset}-` } : {}),
      }),
      { abortSignal: signal },
    );
    const [, md5] = /^"?([0-9a-f]{32})"?$/.exec(etag) ?? [];
    // The ETag of an object encrypted with a managed or customer key is no sum.
    const isSum = !answer.ServerSideEncryption?.startsWith('aws:') && !answer.SSECustomerAlgorithm;
    if (md5 !== undefined && isSum && !digests.some((known) => known.file === file)) {
      digests.push({ file, algorithm: 'md5', digest: md5 });
    }
    const [, start = '0'] = /^bytes (\d{1,15})-/.exec(answer.ContentRange ?? '') ?? [];
    return { stream: answer.Body as Readable, start: Number(start), totalBytes: bytes };
  } catch (error) {
    const status = statusOf(error);
    if (status === 412)
      throw new ServingError('CHECKPOINT_INVALID', `${display} changed while it was downloaded`);
    if (status === 429 || (status ?? 500) >= 500) {
      throw new TransportError(`S3 fails (${(error as Error).name})`, { cause: error });
    }
    throw asServingError(error, display, signal);
  }
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

function asServingError(error: unknown, display: string, signal: AbortSignal | undefined): ServingError {
  if (error instanceof ServingError) return error;
  if (signal?.aborted)
    return new ServingError('CANCELLED', 'Fetching the model was cancelled', { cause: error });
  const status = statusOf(error);
  const reason = status === undefined ? 'S3 cannot be reached' : `S3 answers ${status}`;
  return new ServingError('MODEL_NOT_FOUND', `${display}: ${reason} (${(error as Error).name})`, {
    cause: error,
  });
}
