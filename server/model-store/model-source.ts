/**
 * Which kind of place a model URL names.
 *
 * In      the URL as a user or client gave it: untrusted text
 * Out     the place, a form of the URL that is safe to print, and a model name
 * Limits  MAX_URL_LENGTH; schemes file, http, https, s3, hf, or none (a path, or a hub id when there is no such path)
 * Errors  BAD_REQUEST
 * Pure    nothing is looked up: whether a path exists is the caller's question
 * Source  DJLServing 0.36: its URLs of models; inferModelNameFromUrl for the name
 */
import { fileURLToPath } from 'node:url';
import { ServingError } from '../../proto/errors.js';
import { withoutGgufEnding } from '../../proto/gguf-folder.js';

export const MAX_URL_LENGTH = 4096;

/** A model of the hub at a branch, tag or commit. */
export interface HubModel {
  id: string;
  revision: string;
  /** Which of its GGUF files: a file's name ends with it before .gguf; absent: the only one, or none. */
  variant?: string;
}

export type ModelSource =
  /** `hub`: what the same text means to the hub, when it can. */
  | { kind: 'path'; path: string; hub: HubModel | null }
  | { kind: 'http'; url: URL }
  /** `prefix` is a key prefix that ends with `/`, the key of one archive, or empty. */
  | { kind: 's3'; bucket: string; prefix: string }
  | { kind: 'hub'; model: HubModel };

export interface ParsedModelUrl {
  source: ModelSource;
  /** Without user, password and query: they may be secrets. */
  display: string;
  suggestedName: string;
}

const ARCHIVE_EXTENSION = /\.(?:tar\.gz|tgz|tar|zip|mar|war)$/i;
const HUB_MODEL =
  /^([A-Za-z0-9][\w.-]{0,95}(?:\/[A-Za-z0-9][\w.-]{0,95})?)(?::([A-Za-z0-9][\w.-]{0,63}))?(?:@([A-Za-z0-9][\w./-]{0,127}))?$/;
const S3_BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f]/;

export function isArchiveName(name: string): boolean {
  return ARCHIVE_EXTENSION.test(name);
}

/** @throws ServingError BAD_REQUEST */
export function parseModelUrl(given: string): ParsedModelUrl {
  if (given.length === 0) throw bad('The model URL is empty');
  if (given.length > MAX_URL_LENGTH) {
    throw bad(`The model URL has ${given.length} characters, at most ${MAX_URL_LENGTH} are read`);
  }
  if (CONTROL_CHARACTER.test(given)) throw bad('The model URL holds a control character');
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(given)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      return fromPath(given, given);
    case 'file':
      return fromPath(pathOfFileUrl(given), given);
    case 'http':
    case 'https':
      return fromHttp(given);
    case 's3':
      return fromS3(given);
    case 'hf':
      return fromHub(given);
    default:
      throw bad(
        `Model URLs of scheme ${scheme} are not supported; supported are a path, file, http, https, s3 and hf`,
      );
  }
}

/** The name DJLServing would infer: `\W` → `_`. */
export function modelNameOf(place: string): string {
  const segment = place.replace(/\/+$/, '').split('/').at(-1) ?? '';
  return withoutGgufEnding(segment.replace(ARCHIVE_EXTENSION, '')).replace(/\W/g, '_') || 'model';
}

function fromPath(path: string, display: string): ParsedModelUrl {
  const hub = path === display ? hubModel(path) : null;
  return { source: { kind: 'path', path, hub }, display, suggestedName: modelNameOf(path) };
}

function pathOfFileUrl(given: string): string {
  try {
    return fileURLToPath(given);
  } catch (cause) {
    throw bad(`${given} is no file URL of this machine`, cause);
  }
}

function fromHttp(given: string): ParsedModelUrl {
  // The one parser of URLs: what is checked is what is connected to.
  let url: URL;
  try {
    url = new URL(given);
  } catch (cause) {
    throw bad('The model URL cannot be parsed', cause);
  }
  url.hash = '';
  let path = url.pathname;
  try {
    path = decodeURIComponent(path);
  } catch {
    // A stray % is fine in a URL; the name then keeps it as _.
  }
  return { source: { kind: 'http', url }, display: displayUrl(url), suggestedName: modelNameOf(path) };
}

/** An http(s) URL without user, password and query. */
export function displayUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

function fromS3(given: string): ParsedModelUrl {
  const [, bucket = '', key = ''] = /^s3:\/\/([^/]*)(?:\/(.*))?$/i.exec(given) ?? [];
  if (!S3_BUCKET.test(bucket)) {
    throw bad(`${given} names no bucket: s3://bucket/prefix/ with a bucket of 3 to 63 of a-z, 0-9, . and -`);
  }
  const prefix = key === '' || key.endsWith('/') || isArchiveName(key) ? key : `${key}/`;
  return {
    source: { kind: 's3', bucket, prefix },
    display: `s3://${bucket}/${prefix}`,
    suggestedName: modelNameOf(key === '' ? bucket : key),
  };
}

function fromHub(given: string): ParsedModelUrl {
  const model = hubModel(given.slice('hf://'.length).replace(/\/$/, ''));
  if (!given.startsWith('hf://') || model === null) {
    throw bad(
      `${given} names no model of the hub: hf://organisation/name[:GGUF][@revision] of letters, digits, _, . and -`,
    );
  }
  return hubUrl(model);
}

/** A hub model as if it had been given by its hf:// URL. */
export function hubUrl(model: HubModel): ParsedModelUrl {
  const variant = model.variant === undefined ? '' : `:${model.variant}`;
  return {
    source: { kind: 'hub', model },
    display: `hf://${model.id}${variant}@${model.revision}`,
    suggestedName: `${model.id}${variant}`.replace(/\W/g, '_'),
  };
}

function hubModel(text: string): HubModel | null {
  const [, id, variant, revision = 'main'] = HUB_MODEL.exec(text) ?? [];
  const dots = /(?:^|[/])\.{1,2}(?:$|[/])|\.\.|--|\/\//;
  if (id === undefined || dots.test(id) || dots.test(revision)) return null;
  return { id, revision, ...(variant === undefined ? {} : { variant }) };
}

function bad(message: string, cause?: unknown): ServingError {
  return new ServingError('BAD_REQUEST', message, cause === undefined ? {} : { cause });
}
