/**
 * A shard worker, whole and real, that suffers what it is ordered to, at the moment it is ordered to.
 *
 * In      orders (fault-orders.ts), looked for before each step
 * Out     a line when one strikes; then its consequences
 * How     it wraps the runner of steps and the sockets' send; the rest is shard-worker/main.ts
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { Pair } from 'zeromq';
import type { Step } from '../../proto/control.js';
import type { WorkerLaunch } from '../../proto/worker-launch.js';
import { StepRunner } from '../../shard-worker/step-runner.js';
import {
  FAULT_FOLDER_VARIABLE,
  type FaultOrder,
  readOrder,
  sayFault,
  wallMs,
  withdrawOrder,
} from './fault-orders.js';

/** A slow rank's: × its own processor time. */
const SLOWNESS = 20;
const MEMORY_PIECE_BYTES = 16 * 1024 * 1024;

const folder = process.env[FAULT_FOLDER_VARIABLE] ?? '';
const { rank } = JSON.parse(process.argv[2] ?? 'null') as WorkerLaunch;

/** One of the order that is there. */
let begun = 0;
let seen = '';
let struck = '';
/** How the next frame leaves. */
let frames: 'garbage' | 'partial' | null = null;

function isDue({ when, begun: needed, rank: victim }: FaultOrder, step: Step): boolean {
  if (victim !== rank || begun < needed || step.rows.length === 0) return false;
  const hasPrompt = step.rows.some(({ tokens }) => tokens > 1);
  return when === 'any' || (when === 'prefill') === hasPrompt;
}

function say({ id }: FaultOrder): void {
  if (struck === id) return;
  struck = id;
  // At once: what is buffered dies with the process.
  writeSync(1, `${sayFault(id, wallMs())}\n`);
}

/** What it allocates it touches, so that it counts. */
function exhaustMemory(memoryGroup: string | undefined): void {
  if (memoryGroup !== undefined) writeFileSync(path.join(memoryGroup, 'cgroup.procs'), String(process.pid));
  const kept: Buffer[] = [];
  for (;;) kept.push(Buffer.alloc(MEMORY_PIECE_BYTES, 1));
}

function carryOut(order: FaultOrder): void {
  say(order);
  switch (order.fault) {
    case 'kill':
      process.kill(process.pid, 'SIGKILL');
      break;
    case 'stop':
      process.kill(process.pid, 'SIGSTOP');
      break;
    case 'exhaust-memory':
      exhaustMemory(order.memoryGroup);
      break;
    case 'garbage':
    case 'partial':
      frames = order.fault;
      break;
    case 'slow':
      break;
  }
}

const run = StepRunner.prototype.run;
StepRunner.prototype.run = async function (this: StepRunner, step: Step) {
  const order = readOrder(folder);
  if (order !== null) {
    if (order.id !== seen) begun = 0;
    seen = order.id;
    begun += step.opens.length;
  }
  if (order === null || !isDue(order, step)) return run.call(this, step);
  if (order.fault !== 'slow') withdrawOrder(folder);
  carryOut(order);
  const before = process.cpuUsage();
  const result = await run.call(this, step);
  // As a processor that is slow: it blocks. What it waited for others, or for a core, would be slow twice.
  const { system, user } = process.cpuUsage(before);
  if (order.fault === 'slow') block(((system + user) / 1000) * (SLOWNESS - 1));
  return result;
};

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

type Frame = Parameters<Pair['send']>[0];

/** The next frame leaves as something else; all others as they are. */
function sendFaulty(this: Pair, frame: Frame, ...rest: []): Promise<void> {
  if (frames === null) return send.call(this, frame, ...rest);
  const how = frames;
  frames = null;
  const parts = (Array.isArray(frame) ? frame : [frame]).map((part) => Buffer.from(part as Uint8Array));
  const bytes = Buffer.concat(parts);
  return send.call(
    this,
    how === 'garbage' ? randomBytes(bytes.length) : bytes.subarray(0, bytes.length >> 1),
  );
}

const send = Pair.prototype.send;
// It is read-only to an assignment.
Object.defineProperty(Pair.prototype, 'send', { value: sendFaulty });

await import('../../shard-worker/main.js');
