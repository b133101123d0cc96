/**
 * One row of the key table, and the short builders that the tables are written with.
 *
 * A row says what becomes of a key: it works (and which field it sets, or that none holds it), it is another name of a row, it has no
 * effect here (one warning with the reason), or it is refused (with a sentence, except for values that ask for nothing).
 */
import type { ModelConfig, ServerConfig } from './config.js';
import type { ValueType } from './value-types.js';

/** What keys of a model can set; load-config makes a ModelConfig of it. */
export interface ModelFields
  extends Omit<
    ModelConfig,
    | 'name'
    | 'version'
    | 'url'
    | 'folder'
    | 'checkpointUrl'
    | 'engine'
    | 'modelFile'
    | 'predictor'
    | 'boundModel'
    | 'batching'
    | 'dtype'
    | 'minGroups'
    | 'maxGroups'
    | 'fillDevices'
    | 'gpus'
  > {
  /** null: by the folder's files. */
  engineName: ModelConfig['engine'] | null;
  /** null: not given. */
  minWorkers: number | null;
  maxWorkers: number | null;
  /** Win over those without a device. */
  cpuMinWorkers: number | null;
  cpuMaxWorkers: number | null;
  gpuMinWorkers: number | null;
  gpuMaxWorkers: number | null;
  /** null: any GPU; []: the CPU. */
  loadOnDevices: readonly number[] | null;
  /** null: not given. */
  rollingBatch: 'rolling' | 'disabled' | null;
  dtype: ModelConfig['dtype'];
  /** Wins over a dtype that is no integer type. */
  quantize: 'int8' | 'int4' | null;
  /** Folder or URL of the checkpoint where it is not the model's own folder. */
  modelId: string | null;
  /** Branch, tag or commit of a checkpoint of the hub. */
  revision: string | null;
}

/** Where a key may stand: server-wide only, anywhere (server-wide it is every model's default), or the environment only. */
export type KeyScope = 'server' | 'model' | 'environment';

export type KeyStatus =
  | {
      readonly kind: 'works';
      readonly field: string;
      readonly type: ValueType<unknown>;
      readonly defaultValue: unknown;
    }
  /** `type` where its value is written in another way. */
  | { readonly kind: 'mapped'; readonly to: string; readonly type?: ValueType<unknown> }
  /** Works, but sets no field: another part of the server reads the environment itself. */
  | { readonly kind: 'elsewhere' }
  | { readonly kind: 'noEffect'; readonly reason: string }
  | { readonly kind: 'refused'; readonly because: string; readonly unless: readonly string[] };

export interface KeyRow {
  readonly name: string;
  readonly scope: KeyScope;
  /** Environment variables that set it, the one that wins first. */
  readonly env: readonly string[];
  readonly status: KeyStatus;
  /** What it is, for KEYS.md; empty where the status says enough. */
  readonly what: string;
  /** The value is never written to a log or a message. */
  readonly secret: boolean;
}

interface RowOptions {
  /** Further environment variables, after the one that follows from the name. */
  readonly env?: readonly string[];
  readonly secret?: boolean;
}

/** `option.x_y` → OPTION_X_Y; `x_y` → SERVING_X_Y; a dotted or camel-case server key has none of its own. */
function ownEnvironmentName(name: string): readonly string[] {
  if (name.startsWith('option.')) return [`OPTION_${name.slice('option.'.length).toUpperCase()}`];
  return /^[a-z_0-9]+$/.test(name) || /^[A-Z_]+$/.test(name) ? [`SERVING_${name.toUpperCase()}`] : [];
}

function row(
  name: string,
  scope: KeyScope,
  status: KeyStatus,
  what: string,
  options: RowOptions = {},
): KeyRow {
  const own = scope === 'environment' ? [name] : ownEnvironmentName(name);
  const env = [...own, ...(options.env ?? [])];
  return { name, scope, env, status, what, secret: options.secret ?? false };
}

/** A server-wide key that sets a field of ServerConfig. */
export function serverKey<F extends keyof ServerConfig>(
  name: string,
  field: F,
  type: ValueType<ServerConfig[F]>,
  defaultValue: ServerConfig[F],
  what: string,
  options?: RowOptions,
): KeyRow {
  return row(name, 'server', { kind: 'works', field, type, defaultValue }, what, options);
}

/** A key that sets a field of every model (server-wide) or of one (in its own serving.properties). */
export function modelKey<F extends keyof ModelFields>(
  name: string,
  field: F,
  type: ValueType<ModelFields[F]>,
  defaultValue: ModelFields[F],
  what: string,
  options?: RowOptions,
): KeyRow {
  return row(name, 'model', { kind: 'works', field, type, defaultValue }, what, options);
}

/** Another name of a key that works. */
export function alias(name: string, to: string, options?: RowOptions): KeyRow {
  return row(name, 'model', { kind: 'mapped', to }, '', options);
}

/** An environment variable that says the same as a server-wide key in another unit; the key's own names are stronger. */
export function converted(name: string, to: string, type: ValueType<unknown>): KeyRow {
  return row(name, 'environment', { kind: 'mapped', to, type }, '');
}

/** An environment variable that no field holds. */
export function readElsewhere(name: string, what: string): KeyRow {
  return row(name, 'environment', { kind: 'elsewhere' }, what);
}

/** Keys that are known and do nothing here, all for the same reason. */
export function withoutEffect(
  scope: KeyScope,
  reason: string,
  names: readonly string[],
  options?: RowOptions,
): KeyRow[] {
  return names.map((name) => row(name, scope, { kind: 'noEffect', reason }, '', options));
}

/** A key whose meaning cannot be had here. A value in `unless` asks for nothing special and is accepted. */
export function refused(
  scope: KeyScope,
  name: string,
  because: string,
  unless: readonly string[] = [],
  options?: RowOptions,
): KeyRow {
  return row(name, scope, { kind: 'refused', because, unless }, '', options);
}
