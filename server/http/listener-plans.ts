/**
 * The HTTP listeners that a configuration asks for.
 *
 * In      its addresses
 * Out     one plan an address: keys that name the same address share it
 * Errors  CONFIG_INVALID: two addresses that cannot both be had
 */
import { isDeepStrictEqual } from 'node:util';
import { ServingError } from '../../proto/errors.js';
import type { ListenAddress, ServerConfig } from '../config/config.js';
import type { ListenerRole } from './dialect.js';

const ALL_HOSTS = ['0.0.0.0', '::'];

export interface ListenerPlan {
  /** Keys of the addresses that it stands for; the first names it. */
  keys: readonly string[];
  address: ListenAddress;
  roles: readonly ListenerRole[];
}

/** @throws ServingError CONFIG_INVALID */
export function listenersOf({
  inferenceAddress,
  managementAddress,
  metricsAddress,
}: Pick<ServerConfig, 'inferenceAddress' | 'managementAddress' | 'metricsAddress'>): ListenerPlan[] {
  const asked: ListenerPlan[] = [
    { keys: ['inference_address'], address: inferenceAddress, roles: ['inference'] },
    { keys: ['management_address'], address: managementAddress, roles: ['management'] },
    { keys: ['metrics_address'], address: metricsAddress ?? managementAddress, roles: ['metrics'] },
  ];
  const plans: ListenerPlan[] = [];
  for (const one of asked) {
    const same = plans.findIndex(({ address }) => isDeepStrictEqual(address, one.address));
    if (same < 0) {
      for (const other of plans) refuseOverlap(other, one);
      plans.push(one);
      continue;
    }
    const { keys, address, roles } = plans[same]!;
    plans[same] = { keys: [...keys, ...one.keys], address, roles: [...roles, ...one.roles] };
  }
  return plans;
}

/** Different hosts and one port, where one of the hosts is all of them. @throws ServingError CONFIG_INVALID */
function refuseOverlap(first: ListenerPlan, second: ListenerPlan): void {
  const [a, b] = [first.address, second.address];
  if (a.kind !== 'tcp' || b.kind !== 'tcp' || a.port !== b.port || a.port === 0) return;
  if (![a.host, b.host].some((host) => ALL_HOSTS.includes(host))) return;
  throw new ServingError(
    'CONFIG_INVALID',
    `${second.keys[0]}: ${b.host}:${b.port} is taken by ${first.keys[0]} ${a.host}:${a.port}; give both the same address, or another port`,
  );
}
