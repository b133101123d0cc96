/**
 * What a test orders a rank to suffer, and how the two talk: an order is a file, the answer a line on the rank's standard output.
 *
 * In      a folder of orders, named to the rank by FAULT_FOLDER_VARIABLE; the server logs what its workers write
 * Out     one order at a time; the rank takes it away when it is carried out, but for `slow`, which lasts as long as the file
 * Limits  only ranks that were started by way of spawn-preload.ts look for orders
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export const FAULT_FOLDER_VARIABLE = 'SHARDSERVE_TEST_FAULTS';

/** What happens to a rank by its own hand, in the middle of a step. */
export type RankFault = 'kill' | 'stop' | 'exhaust-memory' | 'garbage' | 'partial' | 'slow';

export interface FaultOrder {
  /** Stands in the answer. */
  id: string;
  rank: number;
  fault: RankFault;
  /** The step that it happens in: one with a piece of a prompt, one of new tokens alone, or the next. */
  when: 'prefill' | 'decode' | 'any';
  /** Sequences that must have begun since the rank has seen the order. */
  begun: number;
  /** Of `exhaust-memory`: a folder of a control group with a limit, which the rank enters. */
  memoryGroup?: string;
}

const ORDER = 'order.json';

/** Only whole orders are seen. */
export function giveOrder(folder: string, order: FaultOrder): void {
  const part = path.join(folder, `${ORDER}.part`);
  writeFileSync(part, JSON.stringify(order));
  renameSync(part, path.join(folder, ORDER));
}

export function withdrawOrder(folder: string): void {
  rmSync(path.join(folder, ORDER), { force: true });
}

/** null: there is none. */
export function readOrder(folder: string): FaultOrder | null {
  const file = path.join(folder, ORDER);
  if (!existsSync(file)) return null;
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as FaultOrder;
  } catch {
    return null;
  }
}

const SAID = /^fault (\S+) at ([\d.]+)$/;

/** @param atMs of the wall clock, with fractions */
export const sayFault = (id: string, atMs: number): string => `fault ${id} at ${atMs}`;

/** When the fault `id` struck, if that is what the line says. */
export function faultTime(line: string, id: string): number | null {
  const [, said, atMs] = SAID.exec(line) ?? [];
  return said === id ? Number(atMs) : null;
}

/** The wall clock, finer than Date.now(). */
export const wallMs = (): number => performance.timeOrigin + performance.now();
