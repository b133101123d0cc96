/**
 * Turns a model URL into a checked folder on this machine.
 *
 * In      a URL (a path, file, http(s), s3, hf, or a hub id), the operator's policy
 * Out     a folder with config.json or serving.properties: the one that was named, or one of the download folder
 * Limits  those of the policy; fetches of the same content at the same time are one, also of several servers; maxCacheBytes
 * Errors  MODEL_NOT_FOUND (404) not there, unreachable, denied, no model in it; BAD_REQUEST (400) malformed, not allowed or
 *         over a limit; CHECKPOINT_INVALID (400) damaged or hostile; OUT_OF_MEMORY (507) no room on the disk; CANCELLED
 *
 * What is in the cache is not fetched again: the hub's commit, ETag and date decide whether it is the newest, a connection that fails
 * leaves the copy, and offline there is none. A fetched folder appears by one rename when everything is downloaded, verified and unpacked. Giving up leaves nothing; a
 * broken connection leaves a partial that the next fetch of the same content continues; a server that was killed leaves what
 * the next fetch takes over or deletes (cache-folder.ts).
 */
import { mkdir, rm, utimes } from 'node:fs/promises';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { lateImport } from '../../proto/late-import.js';
import { makeRoom, removeModel } from './cache-contents.js';
import { type CacheEntry, cacheEntry, claimWork, discard, keepPartial, publish } from './cache-folder.js';
import { whileLocked } from './cache-lock.js';
import { type CacheRecord, markUsed, readRecord, unmarkUsed, writeRecord } from './cache-records.js';
import { cancelled } from './download-file.js';
import type { FetchPlan, FillContext } from './fetch-plan.js';
import type { FetchedModel, FetchOptions, FetchProgress } from './fetch-policy.js';
import { TransportError } from './guarded-http.js';
import { planHttp } from './http-source.js';
import { findLocal } from './local-source.js';
import { findModelRoot, findOnlyArchive, isModelFolder } from './model-root.js';
import { hubUrl, type ParsedModelUrl, parseModelUrl } from './model-source.js';
import { runStoreTask } from './run-store-task.js';
import { planS3 } from './s3-source.js';
import { SharedWork } from './shared-work.js';

export type { FetchedModel, FetchOptions, FetchPolicy, FetchProgress } from './fetch-policy.js';

const running = new SharedWork<void, FetchProgress>();

/** Owned folder → models that were given it and have not given it back. */
const holders = new Map<string, number>();

/** Owned folders whose source tells nothing to know them by again, or lies on this host. */
const transient = new Set<string>();

/**
 * @returns a folder to be given back by releaseModel
 * @throws ServingError
 */
export async function fetchModel(options: FetchOptions): Promise<FetchedModel> {
  const { policy, signal, url, within = null } = options;
  if (signal?.aborted) throw cancelled(signal.reason);
  let parsed = parseModelUrl(url);
  try {
    let plan: FetchPlan | null = null;
    if (parsed.source.kind === 'path') {
      const { hub, path: given } = parsed.source;
      const local = await findLocal(given, parsed, policy.modelStore, within);
      if (local !== null && 'folder' in local) return { ...local, owned: false };
      plan = local?.plan ?? null;
      if (plan === null && hub === null) {
        const where = within && ' where a request may register one (model_store, registration_folders)';
        throw new ServingError(
          'MODEL_NOT_FOUND',
          `There is no file or folder ${parsed.display}${where ?? ''}`,
        );
      }
      if (plan === null) parsed = hubUrl(hub!);
    }
    if (plan !== null) return await materialise(plan, options);
    const found = await locateRemote(parsed, options);
    const cached = 'cached' in found ? await holdCached(options.downloadFolder, found.cached) : null;
    if (cached !== null) return cached;
    plan = 'plan' in found ? found.plan : await planRemote(parsed, options, null);
    const model = await materialise(plan, options);
    const { downloadFolder } = options;
    await writeRecord(downloadFolder, sourceKey(parsed, policy), {
      display: parsed.display,
      model: path.basename(model.folder),
      suggestedName: model.suggestedName,
      identity: plan.identity,
      validator: plan.validator ?? null,
    });
    await limitCache(options);
    return model;
  } catch (error) {
    throw asServingError(error, parsed.display, signal);
  }
}

/**
 * Gives a fetched model back. What was fetched stays in the cache for the next start, until room is made of it; a source that
 * cannot tell what it has is fetched anew each time, and an archive of this host is unpacked anew: their folders are deleted. A folder of the user's is never touched.
 */
export async function releaseModel({ folder, owned }: Pick<FetchedModel, 'folder' | 'owned'>): Promise<void> {
  if (!owned || !letGo(folder)) return;
  const isOnce = transient.delete(folder);
  // It was used until now, however long ago it was asked for.
  if (!isOnce) await touch(folder).catch(() => {});
  await unmarkUsed(folder);
  if (isOnce) await removeModel(path.dirname(folder), path.basename(folder));
}

/** What names a remote place in the records of the cache; its user and password count, and are not kept. */
function sourceKey(
  { display, source }: ParsedModelUrl,
  { hubEndpoint, s3Endpoint }: FetchOptions['policy'],
): string {
  return source.kind === 'http' ? source.url.href : `${hubEndpoint} ${s3Endpoint ?? ''} ${display}`;
}

/** @returns a folder, or what is to be made */
async function locateRemote(
  parsed: ParsedModelUrl,
  options: FetchOptions,
): Promise<{ cached: CacheRecord } | { plan: FetchPlan }> {
  const { downloadFolder, onWarning, policy } = options;
  const record = await cachedRecord(downloadFolder, sourceKey(parsed, policy));
  if (policy.offline) {
    if (record !== null) return { cached: record };
    throw new ServingError(
      'MODEL_NOT_FOUND',
      `${parsed.display} is not in the cache ${downloadFolder}, and the server is offline (offline, DJL_OFFLINE, OFFLINE, HF_HUB_OFFLINE): start once with a connection`,
    );
  }
  const { source } = parsed;
  // A commit is what it is for ever.
  if (record !== null && source.kind === 'hub' && /^[0-9a-f]{40}$/.test(source.model.revision)) {
    return { cached: record };
  }
  try {
    return { plan: await planRemote(parsed, options, record) };
  } catch (error) {
    const isUnreachable = (error as Error).cause instanceof TransportError;
    if (record === null || !isUnreachable || options.signal?.aborted) throw error;
    onWarning?.(
      `${(error as Error).message}; the copy in the cache is used, whether it is the newest or not`,
    );
    return { cached: record };
  }
}

/** What a place gave last, if that is still there. */
async function cachedRecord(root: string, source: string): Promise<CacheRecord | null> {
  const record = await readRecord(root, source);
  return record !== null && (await isModelFolder(path.join(root, record.model))) ? record : null;
}

async function planRemote(
  parsed: ParsedModelUrl,
  { policy, signal }: FetchOptions,
  record: CacheRecord | null,
): Promise<FetchPlan> {
  const { source } = parsed;
  switch (source.kind) {
    case 'http':
      return planHttp(source.url, parsed, policy, signal, record);
    case 's3':
      return planS3(source, parsed, policy, signal);
    case 'hub':
      return (await lateImport(() => import('./hub-source.js'))).planHub(
        source.model,
        parsed,
        policy,
        signal,
      );
    case 'path':
      throw new Error('a path is no remote source');
  }
}

/** The cached model, held. null: it has gone in between. */
async function holdCached(root: string, record: CacheRecord): Promise<FetchedModel | null> {
  const final = path.join(root, record.model);
  await hold(final);
  if (await isModelFolder(final)) {
    await touch(final);
    return { folder: final, owned: true, suggestedName: record.suggestedName };
  }
  await giveUp(final);
  return null;
}

async function materialise(plan: FetchPlan, options: FetchOptions): Promise<FetchedModel> {
  const { downloadFolder, onProgress, policy, signal } = options;
  const entry = cacheEntry(downloadFolder, plan.suggestedName, plan.identity);
  const { final } = entry;
  // Held before anybody looks whether it is there, so that nobody can delete it in between.
  await hold(final);
  if (plan.identity === null || plan.localArchive !== null) transient.add(final);
  let isUsed = false;
  try {
    await running.join(
      final,
      signal,
      (progress) => onProgress?.(progress),
      async (workSignal, tell) => {
        // Others may go on with this caller's plan after it has given up.
        isUsed = true;
        try {
          if (!(await isModelFolder(final))) {
            await whileLocked(downloadFolder, entry.key, workSignal, async () => {
              // Another server may have made it meanwhile.
              if (await isModelFolder(final)) return;
              await publishModel(plan, entry, downloadFolder, {
                policy,
                signal: workSignal,
                onProgress: tell,
              });
            });
          }
          await touch(final);
        } finally {
          plan.close();
        }
      },
    );
  } catch (error) {
    await giveUp(final);
    throw error;
  } finally {
    if (!isUsed) plan.close();
  }
  return { folder: final, owned: true, suggestedName: plan.suggestedName };
}

async function publishModel(
  plan: FetchPlan,
  entry: CacheEntry,
  downloadFolder: string,
  context: FillContext,
): Promise<void> {
  const isResumable = plan.identity !== null && plan.localArchive === null;
  const work = await claimWork(downloadFolder, entry, isResumable);
  try {
    const root = await makeModel(plan, work, context);
    context.signal.throwIfAborted();
    await publish(root, entry);
  } catch (error) {
    const isBroken = (error as Error).cause instanceof TransportError;
    if (isResumable && isBroken && !context.signal.aborted)
      await keepPartial(downloadFolder, work, entry.key);
    else await discard(downloadFolder, work);
    throw error;
  }
  await discard(downloadFolder, work);
}

/** @returns the model's folder below `work` */
async function makeModel(plan: FetchPlan, work: string, context: FillContext): Promise<string> {
  const files = path.join(work, 'files');
  const unpacked = path.join(work, 'unpacked');
  let archive = plan.localArchive;
  if (archive === null) {
    await mkdir(files, { recursive: true });
    await plan.fill(files, context);
    archive = (await isModelFolder(files)) ? null : await findOnlyArchive(files);
  }
  if (archive !== null) await unpack(archive, unpacked, context);
  const root = await findModelRoot(archive === null ? files : unpacked);
  if (root === null) {
    throw new ServingError(
      'MODEL_NOT_FOUND',
      `There is no model in ${plan.display}: neither config.json, serving.properties, model.onnx nor a handler`,
    );
  }
  return root;
}

async function unpack(archive: string, target: string, context: FillContext): Promise<void> {
  const { maxCompressionRatio, maxEntries, maxUnpackedBytes } = context.policy;
  const limits = { maxCompressionRatio, maxEntries, maxUnpackedBytes };
  // A server that was killed here has left it.
  await rm(target, { recursive: true, force: true });
  await runStoreTask(
    { task: 'unpack', archive, target, limits },
    {
      signal: context.signal,
      onProgress: (doneBytes, totalBytes) => context.onProgress({ stage: 'unpack', doneBytes, totalBytes }),
    },
  );
}

async function hold(folder: string): Promise<void> {
  const count = holders.get(folder) ?? 0;
  holders.set(folder, count + 1);
  await mkdir(path.dirname(folder), { recursive: true, mode: 0o700 });
  await markUsed(folder);
}

async function giveUp(folder: string): Promise<void> {
  if (!letGo(folder)) return;
  transient.delete(folder);
  await unmarkUsed(folder);
}

/** It is used now: the least recently used go first when room is made. */
async function touch(folder: string): Promise<void> {
  await utimes(folder, new Date(), new Date());
}

async function limitCache({ downloadFolder, onWarning, policy }: FetchOptions): Promise<void> {
  for (const { bytes, name } of await makeRoom(downloadFolder, policy.maxCacheBytes)) {
    onWarning?.(
      `${name} (${Math.round(bytes / 1_048_576)} MiB) was deleted from the cache to keep to download_cache_mb`,
    );
  }
}

/** @returns true when nobody of this process holds the folder any more */
function letGo(folder: string): boolean {
  const left = (holders.get(folder) ?? 1) - 1;
  if (left > 0) holders.set(folder, left);
  else holders.delete(folder);
  return left <= 0;
}

function asServingError(error: unknown, display: string, signal: AbortSignal | undefined): ServingError {
  if (error instanceof ServingError && error.code !== 'CANCELLED') {
    // The archive process does not know what it is called outside.
    return error.message.includes(display)
      ? error
      : new ServingError(error.code, `${display}: ${error.message}`, { cause: error });
  }
  if (signal?.aborted) return cancelled(error);
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new ServingError('OUT_OF_MEMORY', `There is no room on the disk for ${display}`, { cause: error });
  }
  if (code === 'EIO' || code === 'EROFS') {
    return new ServingError(
      'WORKER_FAILED',
      `The disk has failed while ${display} was written to it: ${code}`,
      {
        cause: error,
      },
    );
  }
  return error instanceof ServingError ? error : ServingError.from(error);
}
