/**
 * GET /ping: the health of every model, in DJLServing's words.
 *
 * In      the registered models
 * Out     {model: {"status": PENDING | FAILED | Healthy | Unhealthy}}; 500 when one has failed, 207 when one is pending and
 *         allow_multi_status is on, else 200
 * Source  reference serving-apis §1.5
 */
import type { ModelStatus } from '../jobs/generate-request.js';

export function ping(models: readonly ModelStatus[], allowMultiStatus: boolean) {
  const versionsOf = (name: string) => models.filter((model) => model.name === name).length;
  const key = ({ name, version }: ModelStatus) =>
    versionsOf(name) > 1 && version !== null ? `${name}:${version}` : name;
  const body = Object.fromEntries(models.map((model) => [key(model), { status: healthOf(model) }]));
  const states = new Set(models.map(({ state }) => state));
  const status = states.has('FAILED') ? 500 : states.has('PENDING') && allowMultiStatus ? 207 : 200;
  return { status, body };
}

function healthOf({ state, healthy }: ModelStatus): string {
  if (state !== 'READY') return state;
  return healthy ? 'Healthy' : 'Unhealthy';
}
