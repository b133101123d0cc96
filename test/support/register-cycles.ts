/**
 * Registers and unregisters the embedded model, over and over, on a running server; each time it answers a request.
 *
 * Out     resident memory of the server after each cycle, in bytes; what is left behind of processes, sockets and files
 *
 * Memory is read after a full collection, asked for by a signal (server-preload.ts): what is not collected yet is no leak.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { expect } from 'vitest';
import { describedModel } from './described-groups.js';
import { allGone, isRunning, type ServerProcess } from './server-process.js';

export interface Footprint {
  processes: number;
  /** Open descriptors that are sockets or files of their own: not pipes, not libraries. */
  sockets: number;
  files: number;
  /** Entries of the temporary folder. */
  temporary: string[];
}

export function footprint(server: ServerProcess, temporaryFolder: string): Footprint {
  const targets = readdirSync(`/proc/${server.pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${server.pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
  return {
    processes: server.childPids().filter(isRunning).length,
    sockets: targets.filter((target) => target.startsWith('socket:')).length,
    files: targets.filter((target) => target.startsWith('/') || target.startsWith('/memfd:')).length,
    temporary: readdirSync(temporaryFolder).sort(),
  };
}

/** The same is left as before; the sockets of a cycle before may still have been closing then, so there may be fewer now. */
export function expectNothingMore(after: Footprint, before: Footprint): void {
  expect(after.sockets).toBeLessThanOrEqual(before.sockets);
  expect({ ...after, sockets: before.sockets }).toEqual(before);
}

/** How a server under measurement is started. */
export const MEASURED_ENVIRONMENT = {
  NODE_OPTIONS: `--expose-gc --import=${new URL('./server-preload.js', import.meta.url).href}`,
};

/** After a full collection. */
export async function residentBytes(server: ServerProcess): Promise<number> {
  const from = server.lines.length;
  server.kill('SIGUSR2');
  return Number((await server.line((line) => line.msg === 'collected', from)).rssBytes);
}

/** One megabyte that nothing frees. */
export async function leakMegabyte(server: ServerProcess): Promise<void> {
  const from = server.lines.length;
  server.kill('SIGHUP');
  await server.line((line) => line.msg === 'leaked', from);
}

/** Registers, asks, unregisters; resolves when its workers are gone. */
export async function registerCycle(server: ServerProcess, name: string): Promise<void> {
  const register = await fetch(`${server.url}/models?url=models/embedded&model_name=${name}`, {
    method: 'POST',
  });
  expect(await register.json()).toEqual({ status: `Model "${name}" registered.` });
  const { groups } = await describedModel(server, name);
  const pids = groups.flatMap((group) => group.pids).filter((pid): pid is number => pid !== null);
  expect(pids.length).toBeGreaterThan(0);
  const answer = await server.post(`/predictions/${name}`, {
    inputs: 'Once upon a time',
    parameters: { max_new_tokens: 4, do_sample: false },
  });
  expect(answer.status).toBe(200);
  expect(await answer.json()).toHaveProperty('generated_text');
  const gone = await fetch(`${server.url}/models/${name}`, { method: 'DELETE' });
  expect(gone.status).toBe(200);
  await gone.arrayBuffer();
  await allGone(pids);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Memory of late cycles against that of early ones; above 1.05 something grows. */
export const growth = (early: readonly number[], late: readonly number[]): number =>
  median(late) / median(early);
