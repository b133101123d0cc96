/**
 * An image without a container engine: the steps of the Dockerfile, run one after the other in a folder, and containers of it.
 *
 * In      docker/Dockerfile and its .dockerignore, or a file that builds on its image; this checkout with its node_modules
 * Out     the last stage as a folder, its settings, its size; processes in it: chroot to the folder in mounts of their own, with the file's
 *         environment, user and working folder, the root read-only and nothing but the given volumes writable
 * Limits  root on Linux with `unshare` and `chroot`. In place of the base image stand this machine's /usr, Node among it. `npm ci` fetches nothing:
 *         the checkout's node_modules is what it made; a command that differs from INSTALL by a letter is run as it stands
 * Errors  Error when a step of the file fails, or is not understood
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ignoredBy, readDockerfile } from './dockerfile.mjs';

const CONTEXT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
/** The only step that is stood in for. */
const INSTALL = 'npm ci --no-audit --no-fund';
/** The user of the official images of Node. */
const NODE_UID = 1000;
const PASSWD = `root:x:0:0:root:/root:/bin/sh\nnode:x:${NODE_UID}:${NODE_UID}::/home/node:/bin/sh\n`;
const GROUP = `root:x:0:\nnode:x:${NODE_UID}:\n`;
const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];
const BASE_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Where Node lies in the folder if this machine has it outside /usr. */
const FOREIGN_NODE = '/opt/node';

/** Why no image can be made on this machine, or null. */
export function imageObstacle() {
  if (process.platform !== 'linux' || process.getuid() !== 0)
    return 'root on Linux is needed for mounts and chroot';
  const tried = spawnSync('unshare', ['--mount', 'chroot', '/', 'true'], { encoding: 'utf8' });
  if (tried.status === 0) return null;
  return `unshare and chroot are not permitted here: ${tried.error?.message ?? tried.stderr.trim()}`;
}

/**
 * Runs every step of the file.
 *
 * @param {string} scratch an empty folder
 * @param options `file` of the repository; `args`: the build's; `bases`: images of this function that it may build on, by name
 * @returns {{ folder: string, stage: import('./dockerfile.mjs').Stage, megabytes: number }}
 */
export function assembleImage(
  scratch,
  { file = 'docker/Dockerfile', args = {}, bases = {}, log = () => {} } = {},
) {
  const settings = Object.fromEntries(Object.entries(bases).map(([name, { stage }]) => [name, stage]));
  const stages = readDockerfile(readFileSync(path.join(CONTEXT, file), 'utf8'), { args, bases: settings });
  const ignore = path.join(CONTEXT, `${file}.dockerignore`);
  const isIgnored = ignoredBy(existsSync(ignore) ? readFileSync(ignore, 'utf8') : '');
  const folders = new Map();
  for (const [index, stage] of stages.entries()) {
    const folder = path.join(scratch, `stage-${index}`);
    const base = bases[stage.base];
    // Links: what a step writes it writes anew.
    if (base !== undefined) execFileSync('cp', ['-al', base.folder, folder]);
    else if (/^node:/.test(stage.base)) makeBase(folder);
    else throw new Error(`FROM ${stage.base}: this image is not known here`);
    folders.set(stage.name ?? String(index), folder);
    let workdir = base?.stage.workdir ?? '/';
    // What a step sees is what stands before it.
    const env = { ...base?.stage.env };
    for (const step of stage.steps) {
      if (step.kind === 'run') log(`RUN ${step.command}`);
      if (step.kind === 'env' || step.kind === 'arg') Object.assign(env, step.values);
      else if (step.kind === 'workdir') {
        workdir = step.folder;
        mkdirSync(path.join(folder, workdir), { recursive: true });
      } else if (step.kind === 'copy') copy(step, { folder, folders, isIgnored, workdir });
      else if (step.command === INSTALL) {
        execFileSync('cp', ['-a', path.join(CONTEXT, 'node_modules'), path.join(folder, workdir)]);
      } else {
        const [command, ...args] = entering(folder, {
          ...{ argv: ['/bin/sh', '-c', step.command], env, user: 'root', volumes: {}, workdir },
          isReadOnly: false,
        });
        execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
      }
    }
  }
  const folder = [...folders.values()].at(-1);
  const size = execFileSync('du', ['-s', '--apparent-size', '--block-size=1M', folder], { encoding: 'utf8' });
  return { folder, stage: stages.at(-1), megabytes: Number.parseInt(size, 10) };
}

/**
 * Starts a container: the root read-only, its volumes writable. The process is the container's own: signals reach it.
 *
 * @param image of assembleImage()
 * @param options `args` in place of CMD, or `command` in place of both; `env` on top of the file's; `volumes`: folder in it → folder of this machine
 */
export function runImage(
  { folder, stage },
  { args = stage.cmd, command = null, env = {}, volumes = {}, stdio = 'inherit' } = {},
) {
  for (const target of Object.keys(volumes)) mkdirSync(path.join(folder, target), { recursive: true });
  const [program, ...rest] = entering(folder, {
    argv: command ?? [...stage.entrypoint, ...args],
    env: { ...stage.env, ...env },
    ...{ isReadOnly: true, user: stage.user, volumes, workdir: stage.workdir },
  });
  return spawn(program, rest, { stdio });
}

/** Mount points, users, and links as this machine's own root has them. */
function makeBase(folder) {
  for (const name of ['dev', 'etc', 'home/node', 'opt', 'proc', 'root', 'sys', 'tmp', 'usr', 'var/lib']) {
    mkdirSync(path.join(folder, name), { recursive: true });
  }
  chmodSync(path.join(folder, 'tmp'), 0o1777);
  chownSync(path.join(folder, 'home/node'), NODE_UID, NODE_UID);
  writeFileSync(path.join(folder, 'etc/passwd'), PASSWD);
  writeFileSync(path.join(folder, 'etc/group'), GROUP);
  writeFileSync(path.join(folder, 'etc/hosts'), '127.0.0.1 localhost\n');
  for (const name of DEVICES) writeFileSync(path.join(folder, 'dev', name), '');
  symlinkSync('/proc/self/fd', path.join(folder, 'dev/fd'));
  for (const name of ['bin', 'sbin', 'lib', 'lib32', 'lib64']) {
    const own = lstatSync(`/${name}`, { throwIfNoEntry: false });
    if (own?.isSymbolicLink()) symlinkSync(readlinkSync(`/${name}`), path.join(folder, name));
    else if (own) mkdirSync(path.join(folder, name));
  }
  if (foreignNode() !== null) mkdirSync(path.join(folder, FOREIGN_NODE));
}

/** The prefix of a Node that does not lie in /usr, or null. */
function foreignNode() {
  const prefix = path.dirname(path.dirname(process.execPath));
  return prefix === '/usr' || prefix.startsWith('/usr/') ? null : prefix;
}

function copy({ from, sources, target }, { folder, folders, isIgnored, workdir }) {
  const to = path.join(folder, path.resolve(workdir, target));
  mkdirSync(to, { recursive: true });
  for (const source of sources) {
    if (from !== null) {
      const origin = folders.get(from);
      if (origin === undefined) throw new Error(`COPY --from=${from}: there is no such stage before it`);
      // Links, since both are scratch: what stands in the one stage is the same in the other.
      execFileSync('cp', ['-al', `${path.join(origin, source)}/.`, to]);
      continue;
    }
    const origin = path.join(CONTEXT, source);
    cpSync(origin, source === '.' ? to : path.join(to, path.basename(source)), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (file) => !isIgnored(path.relative(CONTEXT, file)),
    });
  }
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The command that runs another in the folder, as what Docker makes of the same settings. */
function entering(folder, { argv, env, isReadOnly, user, volumes, workdir }) {
  const at = (name) => quoted(path.join(folder, name));
  const lines = ['set -e', `mount --bind ${at('')} ${at('')}`];
  const bindReadOnly = (from, to) =>
    lines.push(`mount --bind ${quoted(from)} ${at(to)}`, `mount -o remount,bind,ro ${at(to)}`);
  for (const name of ['usr', 'bin', 'sbin', 'lib', 'lib32', 'lib64']) {
    if (lstatSync(`/${name}`, { throwIfNoEntry: false })?.isDirectory()) bindReadOnly(`/${name}`, name);
  }
  const node = foreignNode();
  if (node !== null) bindReadOnly(node, FOREIGN_NODE);
  lines.push(`mount -t proc proc ${at('proc')}`);
  lines.push(`mount --rbind /sys ${at('sys')}`);
  for (const name of DEVICES.filter((one) => existsSync(`/dev/${one}`))) {
    lines.push(`mount --bind /dev/${name} ${at(`dev/${name}`)}`);
  }
  for (const [inside, outside] of Object.entries(volumes)) {
    lines.push(`mount --bind ${quoted(outside)} ${at(inside)}`);
  }
  if (isReadOnly) lines.push(`mount -o remount,bind,ro ${at('')}`);
  const [, , uid, gid, , home] =
    PASSWD.split('\n')
      .map((line) => line.split(':'))
      .find(([name]) => name === user) ?? [];
  if (uid === undefined) throw new Error(`USER ${user} is not known here; known are root and node`);
  const all = { PATH: node === null ? BASE_PATH : `${FOREIGN_NODE}/bin:${BASE_PATH}`, HOME: home, ...env };
  const settings = Object.entries(all).map(([name, value]) => quoted(`${name}=${value}`));
  lines.push(
    `exec chroot --userspec=${uid}:${gid} --groups=${gid} ${at('')} /usr/bin/env -i -C ${quoted(workdir)} ${settings.join(' ')} ${argv.map(quoted).join(' ')}`,
  );
  return ['unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c', lines.join('\n')];
}
