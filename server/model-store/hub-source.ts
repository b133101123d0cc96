/**
 * A model of the hub: the files a checkpoint needs, at one commit.
 *
 * In      id and revision; the hub's endpoint, an optional token
 * Out     a plan whose identity is endpoint, id and commit
 * Limits  files of the repository's top folder (WANTED_FILES; of GGUF files one, or the parts of one) and sentence-transformers' modules (MODULE_FILES), maxEntries of them, maxDownloadBytes together
 * Errors  MODEL_NOT_FOUND unreachable, unknown, gated; BAD_REQUEST a limit; CHECKPOINT_INVALID a damaged file or odd answer
 * Source  @huggingface/hub speaks to the API; content comes from the address it names, so that it can be resumed
 *
 * The endpoint is the operator's, so it may have any address; where it redirects content to must be public. The token goes
 * to the endpoint only.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileDownloadInfo, HubApiError, type ListFileEntry, listFiles, modelInfo } from '@huggingface/hub';
import { ServingError } from '../../proto/errors.js';
import { isLaterGgufPart, isSameGguf, withoutGgufEnding } from '../../proto/gguf-folder.js';
import { downloadFile, type RemoteBody } from './download-file.js';
import type { FetchPlan } from './fetch-plan.js';
import type { FetchPolicy } from './fetch-policy.js';
import { bufferedFetch, guardedGet, type HttpGuard, TransportError } from './guarded-http.js';
import type { HubModel, ParsedModelUrl } from './model-source.js';
import { verifyDigests } from './verify-digests.js';
import type { FileDigest } from './verify-files.js';

/** Names of GGUF files that a message tells. */
const MOST_NAMES = 20;
/** Weights, configurations, tokenizers, templates; never code, pickles or other frameworks' weights. */
const WANTED_FILES = /^[\w-][\w.-]{0,200}\.(?:json|safetensors|gguf|jinja|txt)$|^tokenizer\.model$/;
/** sentence-transformers': `1_Pooling/config.json`, `2_Dense/model.safetensors`. */
const MODULE_FILES = /^\d{1,2}_[A-Za-z]{1,32}\/(?:config\.json|model\.safetensors)$/;
const SINGLE_WEIGHTS = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
const INDEXED_WEIGHTS = /^model-\d+-of-\d+\.safetensors$/;

interface HubFile {
  name: string;
  bytes: number;
  digest: FileDigest;
}

/** @throws ServingError */
export async function planHub(
  model: HubModel,
  { display, suggestedName }: ParsedModelUrl,
  policy: FetchPolicy,
  signal: AbortSignal | undefined,
): Promise<FetchPlan> {
  const guard = hubGuard(policy);
  const hubUrl = policy.hubEndpoint.replace(/\/+$/, '');
  const { id } = model;
  const client = { hubUrl, fetch: bufferedFetch(guard, signal) };
  const { commit, files } = await asServingError(display, async () => {
    const info = await modelInfo({
      ...client,
      name: id,
      revision: model.revision,
      additionalFields: ['sha'],
    });
    if (!/^[0-9a-f]{40}$/.test(info.sha)) {
      throw new ServingError('CHECKPOINT_INVALID', `${display}: the hub names no commit`);
    }
    const listing = listFiles({ ...client, repo: id, revision: info.sha, recursive: true });
    return { commit: info.sha, files: await chooseFiles(listing, model, display, policy) };
  });
  return {
    display,
    suggestedName,
    identity: [hubUrl, id, commit, ...(model.variant === undefined ? [] : [model.variant])].join('\n'),
    localArchive: null,
    close: () => undefined,
    fill: async (folder, context) => {
      const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
      let before = 0;
      for (const { bytes, name } of files) {
        const onProgress = (done: number): void =>
          context.onProgress({ stage: 'download', doneBytes: before + done, totalBytes });
        const open = fileOpener({ hubUrl, id, commit, name, display }, guard, context.signal);
        await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
        await downloadFile({
          display: `${name} of ${display}`,
          target: path.join(folder, name),
          maxBytes: bytes,
          expectedBytes: bytes,
          open,
          signal: context.signal,
          onProgress,
        });
        before += bytes;
      }
      await verifyDigests(
        folder,
        files.map(({ digest }) => digest),
        context,
      );
    },
  };
}

/** @throws ServingError CONFIG_INVALID */
export function hubGuard(policy: Pick<FetchPolicy, 'hubEndpoint' | 'hubToken'>): HttpGuard {
  let endpoint: URL;
  try {
    endpoint = new URL(policy.hubEndpoint);
  } catch (cause) {
    throw new ServingError('CONFIG_INVALID', `The hub's endpoint ${policy.hubEndpoint} is no URL`, { cause });
  }
  const { hubToken } = policy;
  return {
    rule: (url) => (url.origin === endpoint.origin ? 'any-address' : 'public-only'),
    secretHeaders: (url): Record<string, string> =>
      hubToken !== null && url.origin === endpoint.origin ? { authorization: `Bearer ${hubToken}` } : {},
  };
}

/** Names and sizes are the server's word: only plain names of the top folder and of modules are taken. */
async function chooseFiles(
  listing: AsyncIterable<ListFileEntry>,
  model: HubModel,
  display: string,
  policy: FetchPolicy,
): Promise<HubFile[]> {
  const files: HubFile[] = [];
  let listed = 0;
  for await (const entry of listing) {
    listed += 1;
    if (listed > policy.maxEntries) {
      throw new ServingError('BAD_REQUEST', `${display} lists more than ${policy.maxEntries} files`);
    }
    if (entry.type !== 'file' || !isWanted(entry.path)) continue;
    files.push(hubFile(entry, display));
  }
  const gguf = chooseGguf(files, model, display);
  const isPart = (name: string): boolean => gguf !== null && isSameGguf(gguf, name);
  const ofOne = files.filter(({ name }) => gguf === null || isPart(name) || !isWeights(name));
  const chosen = withoutSecondWeights(ofOne.filter(({ name }) => isPart(name) || !name.endsWith('.gguf')));
  const totalBytes = chosen.reduce((sum, { bytes }) => sum + bytes, 0);
  if (totalBytes > policy.maxDownloadBytes) {
    throw new ServingError(
      'BAD_REQUEST',
      `${display} has ${totalBytes} bytes, at most ${policy.maxDownloadBytes} may be downloaded`,
    );
  }
  if (gguf === null && !chosen.some(({ name }) => name === 'config.json')) {
    throw new ServingError('MODEL_NOT_FOUND', `${display} has no config.json and no .gguf file`);
  }
  return chosen;
}

/** The GGUF file that is the model, or the first of its parts; null: its weights are safetensors. */
function chooseGguf(files: readonly HubFile[], { id, variant }: HubModel, display: string): string | null {
  const names = files.map(({ name }) => name).filter((name) => name.endsWith('.gguf'));
  const models = names.filter((name) => !/mmproj/i.test(name) && !isLaterGgufPart(name));
  if (
    variant === undefined &&
    (models.length === 0 || files.some(({ name }) => /\.safetensors$/.test(name)))
  ) {
    return null;
  }
  const ending = (variant ?? '').toLowerCase();
  const found = models.filter((name) => {
    const bare = withoutGgufEnding(name).toLowerCase();
    const before = bare.slice(0, bare.length - ending.length).at(-1) ?? '';
    return bare.endsWith(ending) && (variant === undefined || /^[._-]?$/.test(before));
  });
  const [only, ...others] = found;
  if (only !== undefined && others.length === 0) return only;
  const shown = models.slice(0, MOST_NAMES).join(', ') || 'none';
  throw new ServingError(
    'MODEL_NOT_FOUND',
    `${display} has ${found.length} GGUF files${variant === undefined ? '' : ` that end with ${variant}`}, and all of them are ${shown}: ` +
      `name one by the end of its name, as in ${id}:Q4_K_M`,
  );
}

const isWeights = (name: string): boolean => /\.(?:safetensors|gguf)$/.test(name);

const isWanted = (name: string): boolean => WANTED_FILES.test(name) || MODULE_FILES.test(name);

function hubFile({ lfs, oid = '', path: name, size }: ListFileEntry, display: string): HubFile {
  const bytes = lfs?.size ?? size;
  const digest: FileDigest = lfs
    ? { file: name, algorithm: 'sha256', digest: lfs.oid }
    : { file: name, algorithm: 'git-blob-sha1', digest: oid };
  const isDigest = lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/;
  if (!Number.isSafeInteger(bytes) || bytes < 0 || !isDigest.test(digest.digest)) {
    throw new ServingError('CHECKPOINT_INVALID', `${display}: the hub tells no size or sum of ${name}`);
  }
  return { name, bytes, digest };
}

/** Some repositories hold the same weights twice (consolidated.safetensors); only those the partitioner reads are taken. */
function withoutSecondWeights(files: readonly HubFile[]): HubFile[] {
  const has = (name: string): boolean => files.some((file) => file.name === name);
  const isRead = (name: string): boolean => {
    if (has(SINGLE_WEIGHTS)) return name === SINGLE_WEIGHTS;
    const isIndexed = has(INDEX_FILE) && files.some((file) => INDEXED_WEIGHTS.test(file.name));
    return !isIndexed || INDEXED_WEIGHTS.test(name);
  };
  return files.filter(
    ({ name }) => !name.endsWith('.safetensors') || MODULE_FILES.test(name) || isRead(name),
  );
}

interface HubAddress {
  hubUrl: string;
  id: string;
  commit: string;
  name: string;
  display: string;
}

/** The address is asked for when the first byte is: a file that is already there costs no request. */
function fileOpener(
  { commit, display, hubUrl, id, name }: HubAddress,
  guard: HttpGuard,
  signal: AbortSignal,
): (offset: number) => Promise<RemoteBody> {
  return async (offset) => {
    const info = await asServingError(
      display,
      () =>
        fileDownloadInfo({
          hubUrl,
          fetch: bufferedFetch(guard, signal),
          repo: id,
          revision: commit,
          path: name,
        }),
      { keepTransportErrors: true },
    );
    if (info === null) throw new ServingError('MODEL_NOT_FOUND', `${display} has no ${name} any more`);
    const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
    const answer = await guardedGet(new URL(info.url), range, guard, signal);
    const { body, headers, status } = answer;
    if (status !== 200 && status !== 206) {
      body.destroy();
      if (status === 429 || status >= 500) throw new TransportError(`the hub answers ${status}`);
      throw new ServingError('MODEL_NOT_FOUND', `${name} of ${display}: the hub answers ${status}`);
    }
    const [, start = '0'] = /^bytes (\d{1,15})-/.exec(headers['content-range'] ?? '') ?? [];
    return { stream: body, start: status === 206 ? Number(start) : 0, totalBytes: info.size };
  };
}

/** The client's errors in our words. */
async function asServingError<T>(
  display: string,
  call: () => Promise<T>,
  { keepTransportErrors = false } = {},
): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof ServingError) throw cause;
    if (cause instanceof TransportError) {
      if (keepTransportErrors) throw cause;
      throw new ServingError('MODEL_NOT_FOUND', `${display}: ${cause.message}`, { cause });
    }
    if (!(cause instanceof HubApiError)) {
      throw new ServingError('CHECKPOINT_INVALID', `${display}: the hub's answer cannot be read`, { cause });
    }
    const { statusCode } = cause;
    if (keepTransportErrors && (statusCode === 429 || statusCode >= 500)) {
      throw new TransportError(`the hub answers ${statusCode}`, { cause });
    }
    const hint =
      statusCode === 401 || statusCode === 403
        ? ': it is unknown, private or gated; HF_TOKEN must be that of an account with access'
        : '';
    throw new ServingError('MODEL_NOT_FOUND', `${display}: the hub answers ${statusCode}${hint}`, { cause });
  }
}
