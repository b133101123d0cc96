/**
 * Whether a group's devices add without the host, and joining them (linked-devices.ts).
 *
 * In      this rank's device; a collective that joins the group already
 * Out     the same on every rank: a LinkedCollective, or the collective that was passed; rank 0 says which, and why
 * How     every rank tells whether its device can; rank 0 tells the id that the library gave it; all join; every rank tells whether it has
 * Limits  half of timeoutMs, JOIN_MS at most, for joining: the other ranks wait meanwhile
 * Errors  UNSUPPORTED_PLATFORM where it must be (option.collective=nccl) and cannot; CollectiveError of the meeting
 */
import { ServingError } from '../../proto/errors.js';
import type { Device, DeviceLink } from '../device/device.js';
import type { Collective } from './collective.js';
import { LinkedCollective } from './linked-devices.js';

const JOIN_MS = 60_000;

export interface LinkDevicesOptions {
  device: Pick<Device, 'deviceClass'> & Partial<Pick<Extract<Device, { isRemote: true }>, 'links'>>;
  /** What option.collective says. */
  wanted: 'auto' | 'zmq' | 'shm' | 'nccl';
  timeoutMs: number;
  /** Absent: half of timeoutMs, JOIN_MS at most. */
  joinTimeoutMs?: number;
  /** A line for the log. */
  say: (line: string) => void;
}

/** @throws ServingError UNSUPPORTED_PLATFORM */
export async function linkDevices(host: Collective, options: LinkDevicesOptions): Promise<Collective> {
  const { device, timeoutMs, wanted } = options;
  const links = device.links ?? null;
  if (links === null) {
    if (wanted !== 'nccl') return host;
    throw refused(`the device is ${device.deviceClass}, and NCCL is cuda's`);
  }
  if (host.worldSize === 1 || wanted === 'shm' || wanted === 'zmq') return host;
  const say = (line: string): void => {
    if (host.rank === 0) options.say(line);
  };
  const meeting = new Meeting(host);
  let why = await meeting.agree(typeof links === 'string' ? links : '');
  if (why === '' && typeof links !== 'string') {
    let link: DeviceLink | null = null;
    const { id, error } = await meeting.tell(() => ({ id: Buffer.from(links.newId()).toString('base64') }));
    const { joinTimeoutMs = Math.min(JOIN_MS, timeoutMs / 2) } = options;
    const group = { rank: host.rank, worldSize: host.worldSize, timeoutMs: joinTimeoutMs };
    let own = error ?? '';
    try {
      if (id !== undefined)
        link = await links.join({ ...group, id: Uint8Array.from(Buffer.from(id, 'base64')) });
    } catch (cause) {
      own = messageOf(cause);
    }
    why = await meeting.agree(own);
    if (why === '' && link !== null) {
      say(`partial sums of ${host.worldSize} ranks are added between their GPUs by ${links.name}`);
      return new LinkedCollective({ host, link, timeoutMs });
    }
    link?.abort();
  }
  if (wanted === 'nccl') throw refused(why);
  say(`partial sums are added by way of the host: ${why}`);
  // What was counted so far was the meeting's.
  Object.assign(host.counters, { gathers: 0, broadcasts: 0, bytesSent: 0 });
  return host;
}

/** Before the first step: its own operations, in order. */
class Meeting {
  readonly #host: Collective;
  #op = 0;

  constructor(host: Collective) {
    this.#host = host;
  }

  /** The first rank's reason against it; '': nobody has one. */
  async agree(reason: string): Promise<string> {
    const own = Buffer.from(reason === '' ? '' : `rank ${this.#host.rank}: ${reason}`);
    const reasons = await this.#host.gather({ step: 0, op: this.#op++ }, own);
    const first = reasons?.map((one) => Buffer.from(one).toString()).find((one) => one !== '') ?? '';
    return (await this.tell(() => ({ id: first }))).id ?? '';
  }

  /** What rank 0 has, on every rank; or why it has nothing. */
  async tell(make: () => { id: string }): Promise<{ id?: string; error?: string }> {
    let bytes: Buffer | null = null;
    if (this.#host.rank === 0) {
      let told: { id: string } | { error: string };
      try {
        told = make();
      } catch (cause) {
        told = { error: messageOf(cause) };
      }
      bytes = Buffer.from(JSON.stringify(told));
    }
    const answer = await this.#host.broadcast({ step: 0, op: this.#op++ }, bytes);
    return JSON.parse(Buffer.from(answer).toString()) as { id?: string; error?: string };
  }
}

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

const refused = (why: string): ServingError =>
  new ServingError('UNSUPPORTED_PLATFORM', `option.collective=nccl cannot be had: ${why}`);
