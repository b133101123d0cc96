/**
 * Loaded into a server under test (NODE_OPTIONS=--import): its ranks are faulty-rank.ts, which is the real one with an ear for orders.
 *
 * Nothing else of the server differs.
 */
import childProcess, { type SpawnOptions } from 'node:child_process';
import { syncBuiltinESMExports } from 'node:module';
import { fileURLToPath } from 'node:url';
import { FAULT_FOLDER_VARIABLE } from './fault-orders.js';

const RANK = /\/shard-worker\/main\.js$/;
const FAULTY_RANK = fileURLToPath(new URL('./faulty-rank.js', import.meta.url));

const folder = process.env[FAULT_FOLDER_VARIABLE];
const spawn = childProcess.spawn as (
  command: string,
  args: readonly string[],
  options: SpawnOptions,
) => ReturnType<typeof childProcess.spawn>;

function spawnFaulty(command: string, args: readonly string[] = [], options: SpawnOptions = {}) {
  if (folder === undefined || !args.some((arg) => RANK.test(arg))) return spawn(command, args, options);
  return spawn(
    command,
    args.map((arg) => (RANK.test(arg) ? FAULTY_RANK : arg)),
    { ...options, env: { ...options.env, [FAULT_FOLDER_VARIABLE]: folder } },
  );
}

childProcess.spawn = spawnFaulty as typeof childProcess.spawn;
syncBuiltinESMExports();
