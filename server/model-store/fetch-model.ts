/**
 * Turns a model URL into a checked folder on this machine.
 *
 * In      a URL (a path, file, http(s), s3, hf, or a hub id), the operator's policy
 * Out     a folder with config.json or serving.properties: the one that was named, or one of the download folder
 * Limits  those of the policy; fetches of the same content at the same time are one
 * Errors  MODEL_NOT_FOUND (404) not there, unreachable, denied, no model in it; BAD_REQUEST (400) malformed, not allowed or
 *         over a limit; CHECKPOINT_INVALID (400) damaged or hostile; OUT_OF_MEMORY (507) no room on the disk; CANCELLED
 *
 * A fetched folder appears by one rename when everything is downloaded, verified and unpacked. Giving up leaves nothing; a
 * broken connection leaves a partial that the next fetch of the same content continues; a server that was killed leaves what
 * the next fetch takes over or deletes (cache-folder.ts).
 */
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { type CacheEntry, cacheEntry, claimWork, discard, keepPartial, publish } from './cache-folder.js';
import { cancelled } from './download-file.js';
import type { FetchPlan, FillContext } from './fetch-plan.js';
import type { FetchedModel, FetchOptions, FetchProgress } from './fetch-policy.js';
import { TransportError } from './guarded-http.js';
import { planHttp } from './http-source.js';
import { planHub } from './hub-source.js';
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
    plan ??= await planRemote(parsed, options);
    return await materialise(plan, options);
  } catch (error) {
    throw asServingError(error, parsed.display, signal);
  }
}

/**
 * Gives a fetched model back. A folder of the download folder is deleted when the last model that was given it is gone; a
 * folder of the user's is never touched.
 */
export async function releaseModel({ folder, owned }: FetchedModel): Promise<void> {
  if (!owned) return;
  if (letGo(folder)) await discard(path.dirname(folder), folder);
}

function planRemote(parsed: ParsedModelUrl, { policy, signal }: FetchOptions): Promise<FetchPlan> {
  const { source } = parsed;
  switch (source.kind) {
    case 'http':
      return planHttp(source.url, parsed, policy, signal);
    case 's3':
      return planS3(source, parsed, policy, signal);
    case 'hub':
      return planHub(source.model, parsed, policy, signal);
    case 'path':
      throw new Error('a path is no remote source');
  }
}

async function materialise(plan: FetchPlan, options: FetchOptions): Promise<FetchedModel> {
  const { downloadFolder, onProgress, policy, signal } = options;
  const entry = cacheEntry(downloadFolder, plan.suggestedName, plan.identity);
  const { final } = entry;
  // Held before anybody looks whether it is there, so that a release in between can't delete it.
  holders.set(final, (holders.get(final) ?? 0) + 1);
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
            await publishModel(plan, entry, downloadFolder, { policy, signal: workSignal, onProgress: tell });
          }
        } finally {
          plan.close();
        }
      },
    );
  } catch (error) {
    letGo(final);
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
  // Of a server that was killed here.
  await rm(target, { recursive: true, force: true });
  await runStoreTask(
    { task: 'unpack', archive, target, limits },
    {
      signal: context.signal,
      onProgress: (doneBytes, totalBytes) => context.onProgress({ stage: 'unpack', doneBytes, totalBytes }),
    },
  );
}

/** @returns true when nobody holds the folder any more */
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
  return error instanceof ServingError ? error : ServingError.from(error);
}
