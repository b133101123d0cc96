/**
 * The server: the only file that knows all the others.
 *
 * Life    configuration → work load manager → HTTP → models → one line with a curl command that works → requests →
 *         SIGTERM or SIGINT: nothing new is taken, what runs gets `drain_timeout`, workers end, exit 0. A second signal ends
 *         the process at once (the kernel ends its workers)
 * In      argv after `start`, the environment, the working folder
 * Out     log lines (JSON; readable text on a terminal) and the curl command on standard output; an exit code
 * Errors  a ServingError of configuration or, with wait_model_loading, of a model's start: the caller prints it and exits 1
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { ServingError } from '../proto/errors.js';
import type { Config, ModelConfig } from './config/config.js';
import { loadConfig } from './config/load-config.js';
import { createHttpServer } from './http/http-server.js';
import { StartupProgress } from './startup-progress.js';
import { prepareModel } from './work-load-manager/prepare-model.js';
import { WorkLoadManager } from './work-load-manager/work-load-manager.js';

const WORKER_PROGRAM = fileURLToPath(new URL('../shard-worker/main.js', import.meta.url));
const PARTITIONER_PROGRAM = fileURLToPath(new URL('../partitioner/main.js', import.meta.url));

/**
 * Starts the server; the process runs on after this has resolved.
 *
 * @throws ServingError when it cannot start
 */
export async function main(argv: string[]): Promise<void> {
  const config = loadConfig({ argv, env: process.env, cwd: process.cwd() });
  const { logger, print } = createLog(config.server.logLevel);
  for (const warning of config.warnings) logger.warn(warning);
  const progress = new StartupProgress(logger, process.stderr.isTTY === true);
  const manager = new WorkLoadManager({
    prepare: (model, options) =>
      prepareModel(model, {
        ...options,
        shardStore: config.server.shardStore,
        partitionerProgram: PARTITIONER_PROGRAM,
      }),
    workerProgram: WORKER_PROGRAM,
    logLevel: config.server.logLevel,
    logger,
    onProgress: (model, phase, done, total) => progress.update(model, phase, done, total),
  });
  const http = await createHttpServer({
    config: config.server,
    service: manager,
    logger,
    singleStartupModel: () => (config.models.length === 1 ? (config.models[0]?.name ?? null) : null),
  });
  const stop = async (): Promise<void> => {
    http.setDraining();
    await manager.drain(config.server.drainTimeoutSeconds * 1000);
    // First the jobs that are left: their streams end, and with them the connections that close() waits for.
    await manager.close();
    await http.close();
  };
  const signals = stopOnSignals(stop, logger);
  try {
    await startServing(config, manager, http, logger, print);
  } catch (error) {
    progress.stop();
    // Stopped while it loaded: the handler of the signal ends the process.
    if (signals.stopping) return;
    await stop();
    throw error;
  }
}

async function startServing(
  config: Config,
  manager: WorkLoadManager,
  http: { listen(): Promise<string> },
  logger: pino.Logger,
  print: (line: string) => void,
): Promise<void> {
  const loading = loadModels(config.models, manager, logger);
  if (config.server.waitModelLoading) {
    await loading;
    announce(await http.listen(), config.models, print);
    return;
  }
  const url = await http.listen();
  loading.then(
    () => announce(url, config.models, print),
    () => {},
  );
}

/** One after the other: two models that load at once only take each other's memory and cores. */
async function loadModels(
  models: readonly ModelConfig[],
  manager: WorkLoadManager,
  logger: pino.Logger,
): Promise<void> {
  let first: unknown = null;
  for (const model of models) {
    const startMs = performance.now();
    try {
      await manager.load(model);
      const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
      logger.info({ model: model.name }, `model ${model.name} is ready after ${seconds} s`);
    } catch (error) {
      const { code, message } = ServingError.from(error);
      logger.error(
        { model: model.name, code, err: error },
        `model ${model.name} could not be loaded: ${message}`,
      );
      first ??= error;
    }
  }
  if (first) throw first;
}

/** The command is told where a person or a script reads it, not in the log. */
function announce(url: string, models: readonly ModelConfig[], print: (line: string) => void): void {
  const model = models[0];
  if (!model) return;
  const body = {
    inputs: 'Once upon a time',
    parameters: { max_new_tokens: 100, do_sample: true },
    stream: true,
  };
  const command = `curl -N ${url}/predictions/${model.name} -H 'content-type: application/json' -d '${JSON.stringify(body)}'`;
  print(`Shardserve is ready. Try:\n${command}`);
}

function stopOnSignals(stop: () => Promise<void>, logger: pino.Logger): { readonly stopping: boolean } {
  const state = { stopping: false };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (state.stopping) process.exit(1);
      state.stopping = true;
      logger.info(`${signal}: no new requests; running ones may end`);
      stop().then(
        () => process.exit(0),
        (error: unknown) => {
          logger.error({ err: error }, 'stopping failed');
          process.exit(1);
        },
      );
    });
  }
  return state;
}

/** The log, and a way to print a line of text after what was logged before it. */
function createLog(level: string): { logger: pino.Logger; print: (line: string) => void } {
  if (process.stdout.isTTY === true && hasPrettyPrinter()) {
    const logger = pino({ level, transport: { target: 'pino-pretty' } });
    return { logger, print: (line) => process.stdout.write(`${line}\n`) };
  }
  // Not process.stdout: the log is written a little later than it is made, and lines must keep their order.
  const output = pino.destination({ dest: 1, sync: false });
  return { logger: pino({ level }, output), print: (line) => output.write(`${line}\n`) };
}

/** A development package: an installation without it logs JSON. */
function hasPrettyPrinter(): boolean {
  try {
    createRequire(import.meta.url).resolve('pino-pretty');
    return true;
  } catch {
    return false;
  }
}
