/**
 * The winner as what one needs to run it: a serving.properties a model, and the call that registers it.
 *
 * In      plan, settings
 * Out     file name → text
 */
import path from 'node:path';
import type { TunePlan } from '../plan/tune-plan.js';
import type { Settings } from '../space/space.js';
import { modelSettings, propertiesText, serverEnvironment } from '../target/variant-folder.js';

/** Keys that the registration itself takes, under its own names (DJLServing's management API). */
const REGISTRATION: Readonly<Record<string, string>> = {
  batch_size: 'batch_size',
  max_batch_delay: 'max_batch_delay',
  job_queue_size: 'job_queue_size',
  max_idle_time: 'max_idle_time',
  minWorkers: 'min_worker',
  maxWorkers: 'max_worker',
};

export function winnerFiles({ models }: TunePlan, settings: Settings, sentence: string): Map<string, string> {
  const files = new Map<string, string>();
  const calls: string[] = [];
  for (const { folder, name, properties } of models) {
    const found = { ...properties, ...modelSettings(settings, name) };
    const file = models.length === 1 ? 'serving.properties' : path.join(name, 'serving.properties');
    files.set(file, `# ${sentence.split('\n')[0]}\n${propertiesText(found)}`);
    const query = new URLSearchParams({ url: folder ?? name, model_name: name });
    for (const [key, value] of Object.entries(found)) {
      if (Object.hasOwn(REGISTRATION, key)) query.set(REGISTRATION[key]!, String(value));
    }
    calls.push(`curl -X POST 'http://127.0.0.1:8080/models?${query.toString()}'`);
    const left = Object.keys(found).filter((key) => !Object.hasOwn(REGISTRATION, key));
    if (left.length > 0)
      calls.push(
        `# in the folder's serving.properties, since a registration does not take them: ${left.join(', ')}`,
      );
  }
  const environment = Object.entries(serverEnvironment(settings));
  if (environment.length > 0) {
    files.set('environment', environment.map(([key, value]) => `${key}=${value}\n`).join(''));
  }
  files.set('register.sh', `${calls.join('\n')}\n`);
  return files;
}
