/**
 * GET /ping: the health of every model, in DJLServing's words.
 *
 * In      the registered models, whether the error limits are exceeded, the overrides of the configuration
 * Out     {model: {"status": PENDING | FAILED | Healthy | Unhealthy}}, with our `reason` where it is FAILED; the first that fits:
 *         503 too many errors, 500 one has failed (or has too few workers, with sagemaker_health_check_override), 207 one is
 *         pending and allow_multi_status is on, else 200
 * Source  DJLServing 0.36: ModelManager.workerStatus; its Python engine for SERVING_HEALTH_CHECK_OVERRIDE
 */
import type { ServerConfig } from '../../../config/config.js';
import type { PoolDescription } from '../../../requests/management.js';

export type PoolHealth = Pick<PoolDescription, 'name' | 'version' | 'state' | 'healthy' | 'failure'>;
export type PingConfig = Pick<
  ServerConfig,
  'allowMultiStatus' | 'unhealthyFailsPing' | 'deadWorkersPassPing'
>;
type Health = 'PENDING' | 'FAILED' | 'Healthy' | 'Unhealthy';

export function ping(pools: readonly PoolHealth[], errorsExceeded: boolean, config: PingConfig) {
  const versionsOf = (name: string) => pools.filter((pool) => pool.name === name).length;
  const key = ({ name, version }: PoolHealth) =>
    versionsOf(name) > 1 && version !== null ? `${name}:${version}` : name;
  const states = pools.map((pool) => ({ pool, health: healthOf(pool, config) }));
  const body = Object.fromEntries(
    states.map(({ pool, health }) => [
      key(pool),
      { status: health, ...(health === 'FAILED' && pool.failure && { reason: pool.failure.message }) },
    ]),
  );
  return { status: statusOf(new Set(states.map(({ health }) => health)), errorsExceeded, config), body };
}

function statusOf(states: ReadonlySet<Health>, errorsExceeded: boolean, config: PingConfig): number {
  if (errorsExceeded) return 503;
  if (states.has('FAILED') || (config.unhealthyFailsPing && states.has('Unhealthy'))) return 500;
  return states.has('PENDING') && config.allowMultiStatus ? 207 : 200;
}

function healthOf({ state, healthy, failure }: PoolHealth, { deadWorkersPassPing }: PingConfig): Health {
  const workersDied = failure?.code === 'WORKER_FAILED' || failure?.code === 'STEP_TIMEOUT';
  if (state === 'FAILED' && workersDied && deadWorkersPassPing) return 'Unhealthy';
  if (state !== 'READY') return state;
  return healthy ? 'Healthy' : 'Unhealthy';
}
