/**
 * `shardserve torchserve`: TorchServe's command, on this server.
 *
 * In      --start, --stop, --version and their flags (config/torchserve/torchserve-flags.ts)
 * Out     --start: a server, in the background unless --foreground is given; --stop ends it and deletes its tokens
 * Limits  one server a user of this machine that --stop finds: its process is written to a file of the temporary folder
 * Errors  CONFIG_INVALID; exit code 1 where one runs already, or none
 * Source  TorchServe's command line: what it prints, .model_server.pid
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ServingError } from '../proto/errors.js';
import { ALL_ENGINES } from './all-engines.js';
import { loadTorchServe } from './config/torchserve/load-torchserve.js';
import { parseTorchServeFlags, TORCHSERVE_HELP } from './config/torchserve/torchserve-flags.js';
import { IDENTITY_PATTERN, identityOf, isGone, machineId } from './machine/process-identity.js';
import { runServer } from './main.js';

const COMMAND = fileURLToPath(new URL('../../server/shardserve.mjs', import.meta.url));
const VERSION_OF = 'TorchServe Version is 0.12.0 (Shardserve)';
/** Beyond what a drain takes by default. */
const STOP_POLL_MS = 50;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

export async function main(argv: readonly string[]): Promise<number> {
  const flags = parseTorchServeFlags(argv);
  switch (flags.action) {
    case 'help':
      say(TORCHSERVE_HELP);
      return 0;
    case 'version':
      say(VERSION_OF);
      return 0;
    case 'stop':
      return stop(flags.foreground);
    case 'start':
      return start(argv, flags.foreground);
  }
}

async function start(argv: readonly string[], foreground: boolean): Promise<number> {
  const other = running();
  if (other !== null && other.pid !== process.pid) {
    say('TorchServe is already running, please use torchserve --stop to stop TorchServe.');
    return 1;
  }
  // What is wrong with it is told here, where somebody reads it.
  const engines = Object.keys(ALL_ENGINES);
  const config = loadTorchServe({ argv, env: process.env, cwd: process.cwd(), engines });
  if (foreground) {
    remember(process.pid, config.torchServe!.keyFile);
    await runServer(config);
    return 0;
  }
  const child = spawn(process.execPath, [COMMAND, 'torchserve', ...argv, '--foreground'], {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  await once(child, 'spawn');
  // Before anybody can ask for its end.
  remember(child.pid!, config.torchServe!.keyFile);
  child.unref();
  return 0;
}

async function stop(foreground: boolean): Promise<number> {
  const found = running();
  if (found === null) {
    say('TorchServe is not currently running.');
    return 1;
  }
  process.kill(found.pid, 'SIGTERM');
  while (foreground && running() !== null)
    await new Promise<void>((resolve) => {
      setTimeout(resolve, STOP_POLL_MS);
    });
  rmSync(pidFile(), { force: true });
  rmSync(found.keyFile, { force: true });
  say('TorchServe has stopped.');
  return 0;
}

/** Only this user's: another's is none of ours. */
const pidFile = (): string => path.join(tmpdir(), `.model_server.${process.getuid?.() ?? 0}.pid`);

function remember(pid: number, keyFile: string): void {
  try {
    rmSync(pidFile(), { force: true });
    writeFileSync(pidFile(), `${identityOf(pid)}\n${keyFile}\n`, { mode: 0o600, flag: 'wx' });
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    throw new ServingError('CONFIG_INVALID', `${pidFile()} cannot be written: ${reason}`, { cause });
  }
}

/** null: none is, or the process that has its number is another. */
function running(): { pid: number; keyFile: string } | null {
  try {
    const [identity = '', keyFile = ''] = readFileSync(pidFile(), 'utf8').split('\n');
    const [, machine, pid, startTime] = new RegExp(`^${IDENTITY_PATTERN}$`).exec(identity) ?? [];
    // Another machine, or another life of a container: nobody here.
    if (machine !== machineId() || pid === undefined || startTime === undefined) return null;
    return isGone(machine, pid, startTime) ? null : { pid: Number(pid), keyFile };
  } catch {
    return null;
  }
}
