/**
 * TorchServe's snapshots: what is served, written after every change of it, so that the next start goes on with it.
 *
 * In      the configuration as given; the models there are
 * Out     logs/config/<time>-<why>.cfg: config.properties with model_snapshot; the newest is what a start without a configuration reads
 * Limits  MAX_SNAPSHOTS are kept; files are written whole, by a rename
 * Errors  of the disk: told to `onTrouble`; the server goes on
 * Source  TorchServe's snapshots: names, fields
 */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { TorchServeConfig } from '../config/torchserve/torchserve-config.js';
import { snapshotOf } from '../http/dialects/torchserve/describe-body.js';
import type { TorchServeModels } from '../http/dialects/torchserve/torchserve-models.js';
import type { ManagementService } from '../requests/management.js';

const MAX_SNAPSHOTS = 100;
const MODE = 0o600;

export type SnapshotReason = 'startup' | 'snapshot' | 'shutdown';

export interface SnapshotsOptions {
  torchServe: Pick<TorchServeConfig, 'logFolder' | 'given'>;
  management: ManagementService;
  models: TorchServeModels;
  onTrouble: (text: string) => void;
  now?: () => Date;
}

export class Snapshots {
  readonly #options: SnapshotsOptions;
  readonly #folder: string;
  #last = '';

  constructor(options: SnapshotsOptions) {
    this.#options = options;
    this.#folder = path.join(options.torchServe.logFolder, 'config');
  }

  write(reason: SnapshotReason): void {
    const name = `${this.#time()}-${reason}.cfg`;
    try {
      mkdirSync(this.#folder, { recursive: true });
      const beside = path.join(this.#folder, `.${name}.${process.pid}`);
      writeFileSync(beside, this.#text(name), { mode: MODE });
      renameSync(beside, path.join(this.#folder, name));
      const all = readdirSync(this.#folder)
        .filter((one) => /^\d{17}-\w+\.cfg$/.test(one))
        .sort();
      for (const old of all.slice(0, -MAX_SNAPSHOTS)) rmSync(path.join(this.#folder, old), { force: true });
    } catch (error) {
      this.#options.onTrouble(`the snapshot ${name} was not written: ${(error as Error).message}`);
    }
  }

  /** Two of one millisecond are told apart: a name's order is its time's. */
  #time(): string {
    const digits = (this.#options.now?.() ?? new Date()).toISOString().replace(/\D/g, '').slice(0, 17);
    const next = digits > this.#last ? digits : (BigInt(this.#last) + 1n).toString().padStart(17, '0');
    this.#last = next;
    return next;
  }

  #text(name: string): string {
    const { management, models, torchServe } = this.#options;
    // Those go with a workflow or a handler.
    const pools = management.list().filter(({ isAttached }) => !isAttached);
    const byName = new Map<string, [version: string, told: object][]>();
    for (const pool of pools) {
      const told: [string, object] = [pool.version ?? '', snapshotOf(pool, models.recordOf(pool))];
      byName.set(pool.name, [...(byName.get(pool.name) ?? []), told]);
    }
    // A name may be __proto__.
    const told = Object.fromEntries([...byName].map(([of, versions]) => [of, Object.fromEntries(versions)]));
    const snapshot = { name, modelCount: pools.length, created: Date.now(), models: told };
    const properties = { ...torchServe.given, model_snapshot: JSON.stringify(snapshot) };
    const lines = Object.entries(properties).map(([key, text]) => `${key}=${escaped(text)}`);
    return `#Saving snapshot\n${lines.join('\n')}\n`;
  }
}

/** As java.util.Properties writes a value. */
const escaped = (text: string): string =>
  text
    .replace(/\\/g, '\\\\')
    .replace(/\n/g, '\\n')
    .replace(/\r/g, '\\r')
    .replace(/\t/g, '\\t')
    .replace(/^ /, '\\ ');
