/**
 * The models as Anthropic's clients list them: those that send `anthropic-version` ask the same path as OpenAI's.
 *
 * In      the models' names and times; the path is OpenAI's (openai-routes.ts)
 * Out     {"data", "has_more", "first_id", "last_id"}, all on one page; or one model
 * Errors  none of its own
 * Source  Anthropic API reference (models)
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { ModelStatus } from '../../../requests/service.js';

export const asksAsAnthropic = (headers: IncomingHttpHeaders): boolean =>
  headers['anthropic-version'] !== undefined;

export const anthropicModel = ({ registeredAtMs }: Pick<ModelStatus, 'registeredAtMs'>, id: string) => ({
  ...{ type: 'model', id, display_name: id, created_at: new Date(registeredAtMs).toISOString() },
});

export function anthropicModels(models: readonly Pick<ModelStatus, 'name' | 'registeredAtMs'>[]) {
  const data = models.map((one) => anthropicModel(one, one.name));
  return { data, has_more: false, first_id: data.at(0)?.id ?? null, last_id: data.at(-1)?.id ?? null };
}
