/** Health as TorchServe tells it: of each model's default version, whether as many workers run as should. */
import type { PoolDescription } from '../../../requests/management.js';

export function health(pools: readonly PoolDescription[]): 'Healthy' | 'Unhealthy' {
  const isHealthy = ({ healthy, isDefault, state }: PoolDescription): boolean =>
    isDefault !== true || state === 'PENDING' || (state === 'READY' && healthy);
  return pools.every(isHealthy) ? 'Healthy' : 'Unhealthy';
}
