/**
 * Workflows of the start: registered at once, loaded after the models, which they may use.
 *
 * In      entries of load_models and the model store; the registry; what they wait for
 * Out     resolves when all are ready
 * Errors  the first of those that cannot be read or loaded, once all were tried; each is told to the log. Nothing is left of them
 */
import type { Logger } from 'pino';
import { ServingError } from '../proto/errors.js';
import type { WorkflowEntry } from './config/config.js';
import type { WorkflowService } from './requests/workflows.js';

/** @param after the models' loading: what it fails with is told by whoever waits for it. @throws ServingError */
export async function startWorkflows(
  entries: readonly WorkflowEntry[],
  workflows: Pick<WorkflowService, 'register'>,
  after: Promise<unknown>,
  logger: Logger,
): Promise<void> {
  const settled = after.catch(() => undefined);
  const started = await Promise.allSettled(
    entries.map(async ({ name, url }) => {
      const startMs = performance.now();
      try {
        const given = { url, ...(name !== null && { name }), byOperator: true, after: settled };
        const registered = await workflows.register(given);
        await registered.ready;
        const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
        logger.info({ workflow: registered.name }, `workflow ${registered.name} is ready after ${seconds} s`);
      } catch (error) {
        const { code, message } = ServingError.from(error);
        logger.error(
          { workflow: name ?? url, code, err: error },
          `workflow ${url} was not loaded: ${message}`,
        );
        throw error;
      }
    }),
  );
  const failed = started.find((one) => one.status === 'rejected');
  if (failed) throw failed.reason;
}
