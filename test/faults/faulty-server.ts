/**
 * A server whose ranks take orders, in a mount namespace of its own: its /dev/shm and its temporary folder are small and can be filled.
 *
 * In      how its ranks are joined; a folder for what is on disk
 * Out     `strike`: an order, and when it was carried out; disks that fill and empty; a control group with a limit
 * Limits  Linux; what the machine does not permit is told by `missing`
 */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ServerProcess } from '../support/server-process.js';
import {
  FAULT_FOLDER_VARIABLE,
  type FaultOrder,
  faultTime,
  giveOrder,
  withdrawOrder,
} from './fault-orders.js';

const PRELOAD = fileURLToPath(new URL('./spawn-preload.js', import.meta.url));
const DISK_MB = 16;
const SHM_MB = 16;
/** What a rank may take more, before the kernel ends it. */
const MEMORY_GROUP_BYTES = 64 * 1024 * 1024;
const FILLER = 'filler';

/** `$0` is a folder, then the command: a private view of the mounts, and in it two small disks. */
const inNamespace = (diskMb: number): string =>
  [
    `mount -t tmpfs -o size=${SHM_MB}m tmpfs /dev/shm`,
    `mount -t tmpfs -o size=${diskMb}m tmpfs "$0"`,
    'exec "$@"',
  ].join(' && ');

export class FaultyServer {
  readonly server: ServerProcess;
  readonly #folder: string;
  readonly #orders: string;
  readonly #disk: string;
  readonly #memoryGroup: string | null;

  private constructor(server: ServerProcess, folder: string, memoryGroup: string | null) {
    this.server = server;
    this.#folder = folder;
    this.#orders = path.join(folder, 'orders');
    this.#disk = path.join(folder, 'disk');
    this.#memoryGroup = memoryGroup;
  }

  /** @param environmentOf with the path of the small disk, where there is one */
  static async start(
    environmentOf: (disk: string) => Record<string, string>,
    diskMb = DISK_MB,
  ): Promise<FaultyServer> {
    const folder = mkdtempSync(path.join(tmpdir(), 'faults-'));
    const disk = path.join(folder, 'disk');
    const orders = path.join(folder, 'orders');
    mkdirSync(disk);
    mkdirSync(orders);
    const wrapper = mayMount() ? ['unshare', '-m', 'sh', '-c', inNamespace(diskMb), disk] : [];
    const server = new ServerProcess(
      {
        NODE_OPTIONS: `--import=${PRELOAD}`,
        [FAULT_FOLDER_VARIABLE]: orders,
        ...(wrapper.length > 0 && { TMPDIR: disk, SERVING_LOG_FOLDER: disk }),
        ...environmentOf(disk),
      },
      wrapper,
    );
    await server.ready();
    return new FaultyServer(server, folder, makeMemoryGroup());
  }

  /** Why a fault cannot be made on this machine; null: it can. */
  missing(fault: string): string | null {
    if (fault === 'exhaust-memory' && this.#memoryGroup === null)
      return 'no control group of memory can be made here';
    if ((fault === 'full-shm' || fault === 'full-disk') && !mayMount()) return 'no disk can be mounted here';
    return null;
  }

  /** The small disk's path, as the server knows it. */
  get disk(): string {
    return this.#disk;
  }

  /** Gives the order. @returns the time at which it was carried out, once it was */
  async strike(order: Omit<FaultOrder, 'memoryGroup'>): Promise<number> {
    const from = this.server.lines.length;
    const memoryGroup = this.#memoryGroup;
    giveOrder(this.#orders, { ...order, ...(memoryGroup !== null && { memoryGroup }) });
    let atMs: number | null = null;
    await this.server.line(({ msg }) => {
      atMs = faultTime(msg ?? '', order.id);
      return atMs !== null;
    }, from);
    return atMs!;
  }

  /** No order holds any more. */
  relent(): void {
    withdrawOrder(this.#orders);
  }

  fill(what: 'full-shm' | 'full-disk'): void {
    const zeros = Buffer.alloc(64 * 1024);
    const file = this.#filler(what);
    // What the server writes meanwhile may free and take a page.
    writeFileSync(file, '');
    for (;;) {
      try {
        writeFileSync(file, zeros, { flag: 'a' });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return;
        throw error;
      }
    }
  }

  empty(what: 'full-shm' | 'full-disk'): void {
    rmSync(this.#filler(what), { force: true });
  }

  /** Seen from outside. */
  #filler(what: 'full-shm' | 'full-disk'): string {
    const inside = what === 'full-shm' ? '/dev/shm' : this.#disk;
    return path.join('/proc', String(this.server.pid), 'root', inside, FILLER);
  }

  /** What lies on the small disk, as the server sees it. */
  list(folder: string): string[] {
    return readdirSync(path.join('/proc', String(this.server.pid), 'root', folder)).sort();
  }

  async stop(): Promise<void> {
    this.server.kill('SIGKILL');
    await this.server.exited;
    rmSync(this.#folder, { recursive: true, force: true });
    if (this.#memoryGroup !== null) removeMemoryGroup(this.#memoryGroup);
  }
}

const mayMount = (): boolean =>
  spawnSync('unshare', ['-m', 'sh', '-c', 'mount -t tmpfs -o size=1m tmpfs /dev/shm'], { stdio: 'ignore' })
    .status === 0;

/** A control group below this process's own, with a limit; null: there may be none. Versions 1 and 2. */
function makeMemoryGroup(): string | null {
  const lines = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n');
  const own = (controllers: string): string | undefined =>
    lines.find((line) => line.split(':')[1]?.split(',').includes(controllers))?.replace(/^\d+:[^:]*:/, '');
  const first = own('memory');
  const parent = path.join(
    '/sys/fs/cgroup',
    first === undefined ? (own('') ?? '') : path.join('memory', first),
  );
  const limit = first === undefined ? 'memory.max' : 'memory.limit_in_bytes';
  const folder = path.join(parent, `shardserve-faults-${process.pid}`);
  try {
    accessSync(parent, constants.W_OK);
    mkdirSync(folder);
    if (!existsSync(path.join(folder, limit))) {
      rmdirSync(folder);
      return null;
    }
    writeFileSync(path.join(folder, limit), String(MEMORY_GROUP_BYTES));
    return folder;
  } catch {
    return null;
  }
}

function removeMemoryGroup(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // A process of it is still ending: an empty group takes nothing.
  }
}
