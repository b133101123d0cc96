/**
 * Who owns a file of a folder that several servers share: the process's identity, as its name holds it.
 *
 * In      names
 * Out     whether the process that one names runs
 * Limits  of a process of another machine (a shared file system) nothing is known
 */
import { isGone, machineId, processIdentity } from '../machine/process-identity.js';

/** What a text must look like to be one; three groups. */
export const OWNER_PATTERN = '([0-9a-f]+)-(\\d+)-(\\d+)';

/** This process. */
export const ownIdentity = processIdentity;

/** null: it is another machine's. */
export function isAlive(identity: string): boolean | null {
  const [, machine, pid, startTime] = new RegExp(`^${OWNER_PATTERN}$`).exec(identity) ?? [];
  if (machine === undefined || pid === undefined || startTime === undefined) return false;
  return machine === machineId() ? !isGone(machine, pid, startTime) : null;
}
