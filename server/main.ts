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

import { readFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { ServingError } from '../proto/errors.js';
import { lateImport } from '../proto/late-import.js';
import { AccessControl } from './access/access-control.js';
import { TlsFiles } from './access/tls-files.js';
import { ALL_ENGINES, openEngines } from './all-engines.js';
import { openBoundModel } from './bound-model.js';
import type { Config, ModelConfig, ModelRegistration } from './config/config.js';
import { loadConfig } from './config/load-config.js';
import type { GrpcServer } from './grpc/grpc-server.js';
import { accessLogOf, type HttpDeps } from './http/http-context.js';
import { createHttpServer, type HttpServer } from './http/http-server.js';
import { createServerLog, type ServerLog } from './logging/server-log.js';
import { FolderLease } from './machine/folder-lease.js';
import { gpuReport } from './machine/gpu-report.js';
import { MachineGpus } from './machine/machine-gpus.js';
import { giveBackAfterLoading } from './machine/own-memory.js';
import { LocalLauncher } from './machine/ranks/local-launcher.js';
import { sweepScratchFolders } from './machine/scratch-folder.js';
import { ensureTemporaryFolder } from './machine/temporary-folder.js';
import { ServerMetrics } from './metrics/server-metrics.js';
import { sweep } from './model-store/cache-folder.js';
import { fetchModel, releaseModel } from './model-store/fetch-model.js';
import { parseModelUrl } from './model-store/model-source.js';
import { RegistrationFolders } from './model-store/registration-folders.js';
import { endWithProcess } from './process-end.js';
import { meteredService } from './requests/metered-service.js';
import type { ModelStatus } from './requests/service.js';
import type { TensorSpec } from './requests/signature.js';
import { StartupProgress } from './startup-progress.js';
import { startWorkflows } from './startup-workflows.js';
import { stopServer } from './stop-server.js';
import { type GrpcParts, grpcServer, torchServeOf } from './wanted-parts.js';
import type { RegistrationParts } from './work-load-manager/model-origin.js';
import { WorkLoadManager } from './work-load-manager/work-load-manager.js';
import { workflowParts } from './workflow-parts.js';
import { WorkflowRegistry } from './workflows/workflow-registry.js';

type StartupModels = readonly (ModelConfig | ModelRegistration)[];

/** DJLServing's. */
const FAILED_EXIT_CODE = 137;
/** Beyond the drain: workers that end by force, readers, the log. */
const STOP_GRACE_MS = 10_000;
const WORKER_PROGRAM = fileURLToPath(new URL('../shard-worker/main.js', import.meta.url));
const VERSION = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
const PARTITIONER_PROGRAM = fileURLToPath(new URL('../partitioner/main.js', import.meta.url));

/**
 * Starts the server; the process runs on after this has resolved.
 *
 * @throws ServingError when it cannot start
 */
export async function main(argv: string[]): Promise<void> {
  const engines = Object.keys(ALL_ENGINES);
  await runServer(loadConfig({ argv, env: process.env, cwd: process.cwd(), engines }));
}

/** The same, of a configuration that is read. @throws ServingError when it cannot start */
export async function runServer(config: Config): Promise<void> {
  ensureTemporaryFolder();
  const { logFolder: folder, logLevel: level } = config.server;
  const log = createServerLog({ level, folder, torchServe: config.torchServe });
  const { files, logger, print } = log;
  for (const warning of config.warnings) logger.warn(warning);
  const { gpus, readAgain, sentence } = gpuReport(process.env);
  logger.info({ gpus }, sentence);
  // What servers left that were killed while they fetched; a disk that cannot be tidied is told of when it is written.
  void sweep(config.store.downloadFolder).catch((error: unknown) =>
    logger.warn({ err: error }, 'the download folder was not tidied'),
  );
  void sweepScratchFolders(tmpdir());
  const progress = new StartupProgress(logger, process.stderr.isTTY === true);
  const isDefault = (name: string, version: string): boolean =>
    manager.list().some((pool) => pool.isDefault === true && pool.name === name && pool.version === version);
  const theirs =
    config.torchServe &&
    (await lateImport(() => import('./torchserve/metrics-of.js'))).torchServeMetrics(
      config.torchServe,
      files,
      isDefault,
    );
  const metrics = new ServerMetrics({
    prometheus: config.server.prometheus,
    version: VERSION,
    host: hostname(),
    processMetrics: true,
    gpus: readAgain,
    droppedLogLines: () => log.droppedLines,
    lines: theirs === null && files ? { server: files.serverMetric, model: files.modelMetric } : null,
    onDropped: (sentence) => logger.warn(sentence),
    ...(theirs && {
      more: { rows: theirs.metrics.rows, listener: theirs.metrics },
      declared: theirs.declared,
    }),
  });
  const engineOf = openEngines(ALL_ENGINES, {
    llm: {
      shardStore: config.server.shardStore,
      shardStoreMaxBytes: config.server.shardStoreMaxGb * 2 ** 30,
      partitionerProgram: PARTITIONER_PROGRAM,
      launcher: new LocalLauncher(WORKER_PROGRAM),
      gpus: new MachineGpus({ gpus, readAgain, cudaFolder: config.server.cudaFolder }),
    },
    openBoundModel: openBoundModel(() => manager),
  });
  const registration = registrationParts(config, logger);
  const manager: WorkLoadManager = new WorkLoadManager({
    engineOf,
    registration,
    versionRule: config.torchServe === null ? 'round-robin' : 'default',
    logger,
    drainTimeoutMs: config.server.drainTimeoutSeconds * 1000,
    saturatedModelsYield: config.server.saturatedModelsYield,
    ...(config.server.failFast && { onModelFailed: (model) => failFast(model, log) }),
    onProgress: (model, { doneBytes, stage, totalBytes }) =>
      progress.update(model, stage, doneBytes, totalBytes ?? 0),
    observe: ({ name, version, logRequestMetric, metricsAggregation }, sample) =>
      metrics.observe(
        { name, version, requestMetricWindow: logRequestMetric ? metricsAggregation : null },
        sample,
      ),
  });
  const torchServe = await torchServeOf(config, manager, registration, logger);
  const onProblem = (sentence: string): void => logger.error(sentence);
  const access = new AccessControl(config.server, onProblem, undefined, torchServe?.keySources);
  const tls = tlsFiles(config, onProblem);
  const service = meteredService(manager, access.limits);
  const workflows = new WorkflowRegistry(workflowParts(registration, manager));
  const deps: HttpDeps = {
    config: config.server,
    access,
    tls,
    service,
    management: manager,
    workflows,
    logger,
    metrics,
    ownFolder: (folder, key) => new FolderLease(folder, key),
    onResponse: (response) => {
      metrics.responseSent(response.status, response.times);
      theirs?.metrics.responseSent(response.status);
      files?.access(response);
    },
    singleStartupModel: () => {
      const [only, another] = manager.models().filter((model) => model.loadedAtStartup);
      return only && !another ? only.name : null;
    },
  };
  const http = await createHttpServer(deps, torchServe?.dialects);
  const auditLog = accessLogOf(logger);
  const grpcParts: GrpcParts = {
    ...{ access, tls, service, management: manager, version: VERSION },
    ...{ modelStore: config.server.modelStore, maxMessageBytes: config.server.maxRequestBytes },
    maxConnections: config.server.maxConnections,
    drainTimeoutMs: config.server.drainTimeoutSeconds * 1000,
    stallLimitMs: config.server.chunkedReadTimeoutSeconds * 1000,
    audit: (call) => auditLog.info(call, 'audit'),
    statistics: () => metrics.statistics(),
    onAnswered: (times) => metrics.callAnswered(times),
  };
  const grpc = await grpcServer(config, grpcParts);
  const theirGrpc = torchServe?.grpcServers(http.context, grpcParts) ?? [];
  const drainMs = config.server.drainTimeoutSeconds * 1000;
  const stop = (): Promise<void> => {
    torchServe?.stopping();
    theirs?.metrics.stop();
    const running = {
      drain: (limitMs: number) => manager.drain(limitMs),
      close: async () => {
        await manager.close();
        await workflows.close();
      },
    };
    const calls = oneOf([...(grpc ? [grpc] : []), ...theirGrpc]);
    return stopServer({ http, grpc: calls, manager: running, log }, drainMs);
  };
  const ending = endWithProcess(stop, logger, drainMs + STOP_GRACE_MS);
  try {
    if (grpc) logger.info({ address: await grpc.listen() }, 'the Open Inference Protocol is served by gRPC');
    for (const server of theirGrpc) {
      logger.info(
        { address: await server.listen() },
        `${server.key} listens: TorchServe's API is served by gRPC`,
      );
    }
    const startup = [
      ...config.models,
      ...config.remoteModels,
      ...((await torchServe?.startupModels()) ?? []),
    ];
    // A start that waits for all ends with the first bad one: before the others have loaded, if that can be seen.
    if (config.server.waitModelLoading && startup.length > 1) await checkModels(startup, engineOf, logger);
    const load = async (): Promise<void> => {
      const models = loadModels(startup, manager, logger);
      const all = [models, startWorkflows(config.workflows, workflows, models, logger)];
      const failed = (await Promise.allSettled(all)).find((one) => one.status === 'rejected');
      giveBackAfterLoading();
      if (failed) throw failed.reason;
    };
    await startServing(config.server.waitModelLoading, load, http, (url) => {
      metrics.started(performance.now());
      torchServe?.started();
      theirs?.metrics.start();
      announce(url, manager.models()[0], print);
    });
  } catch (error) {
    progress.stop();
    // Stopped while it loaded: the handler of the signal ends the process.
    if (ending.stopping) return;
    await stop();
    throw error;
  }
}

/** Several, ended together. */
const oneOf = (servers: readonly GrpcServer[]): Pick<GrpcServer, 'setDraining' | 'close'> => ({
  setDraining: () => {
    for (const server of servers) server.setDraining();
  },
  close: async (limitMs) => {
    await Promise.all(servers.map((server) => server.close(limitMs)));
  },
});

/** What a container is started again for, as DJLServing's is. */
function failFast(model: string, { logger, close }: Pick<ServerLog, 'logger' | 'close'>): void {
  logger.error({ model }, `fail_fast is set and ${model} has failed: the server ends`);
  void close().finally(() => process.exit(FAILED_EXIT_CODE));
}

/** null: no address is https://. @throws ServingError CONFIG_INVALID */
function tlsFiles({ server, torchServe }: Config, onProblem: (sentence: string) => void): TlsFiles | null {
  const { grpcAddress, inferenceAddress, managementAddress, metricsAddress } = server;
  const theirs = [torchServe?.grpcInferenceAddress, torchServe?.grpcManagementAddress];
  const addresses = [inferenceAddress, managementAddress, metricsAddress, grpcAddress, ...theirs];
  return addresses.some((address) => address?.tls === true) ? new TlsFiles(server, onProblem) : null;
}

/** The model store under the operator's policy. */
function registrationParts(config: Config, logger: Logger): RegistrationParts {
  const { downloadFolder, ...limits } = config.store;
  const policy = { ...limits, modelStore: config.server.modelStore };
  const onWarning = (sentence: string): void => logger.warn(sentence);
  const stores = [config.server.modelStore, ...(config.torchServe ? [config.torchServe.workflowStore] : [])];
  const allowed = new RegistrationFolders([...stores, ...config.server.registrationFolders]);
  return {
    fetch: (url, { byRequest, onProgress, signal }) =>
      fetchModel({
        url,
        downloadFolder,
        policy,
        signal,
        onProgress,
        onWarning,
        within: byRequest ? allowed : null,
      }),
    release: ({ folder, owned }) => releaseModel({ folder, owned }),
    nameOf: (url) => parseModelUrl(url).suggestedName,
    configure: (registration, folder) => {
      const configured = config.configure(registration, folder);
      for (const warning of configured.warnings) logger.warn(warning);
      return configured.config;
    },
  };
}

async function startServing(
  waitModelLoading: boolean,
  load: () => Promise<void>,
  http: Pick<HttpServer, 'listen' | 'tryAddresses'>,
  onReady: (url: string) => void,
): Promise<void> {
  await http.tryAddresses();
  const loading = load();
  if (waitModelLoading) {
    await loading;
    onReady(await http.listen());
    return;
  }
  const url = await http.listen();
  loading.then(
    () => onReady(url),
    () => {},
  );
}

/** Models whose folder is there. @throws ServingError */
async function checkModels(
  startup: StartupModels,
  engineOf: ReturnType<typeof openEngines>,
  logger: Logger,
): Promise<void> {
  let first: unknown = null;
  for (const model of startup) {
    if (!('engine' in model) || model.checkpointUrl !== null) continue;
    try {
      await engineOf(model).check?.(model, new AbortController().signal);
    } catch (error) {
      logFailure(logger, model.name, error);
      first ??= error;
    }
  }
  if (first) throw first;
}

function logFailure(logger: Logger, model: string, error: unknown): void {
  const { code, message } = ServingError.from(error);
  logger.error({ model, code, err: error }, `model ${model} could not be loaded: ${message}`);
}

/** One after the other: two models that load at once only take each other's memory and cores. */
async function loadModels(startup: StartupModels, manager: WorkLoadManager, logger: Logger): Promise<void> {
  // All are registered before the first is loaded, so that a client is told of each what it is.
  const models = startup.map((model) => manager.enlist(model));
  let first: unknown = null;
  for (const model of models) {
    const startMs = performance.now();
    try {
      await model.start();
      const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
      logger.info({ model: model.id }, `model ${model.id} is ready after ${seconds} s`);
    } catch (error) {
      logFailure(logger, model.id, error);
      first ??= error;
    }
  }
  if (first) throw first;
}

/** The command is told where a person or a script reads it, not in the log. */
function announce(url: string, model: ModelStatus | undefined, print: (line: string) => void): void {
  if (model === undefined) return;
  const body =
    model.task === 'text-embedding' || model.task === 'text-classification'
      ? { inputs: ['Once upon a time'] }
      : model.task === 'handler'
        ? {}
        : model.signature !== null
          ? { inputs: model.signature.inputs.map(exampleOf) }
          : {
              inputs: 'Once upon a time',
              parameters: { max_new_tokens: 100, do_sample: true },
              stream: true,
            };
  const command = `curl -N ${url}/predictions/${model.name} -H 'content-type: application/json' -d '${JSON.stringify(body)}'`;
  print(`Shardserve is ready. Try:\n${command}`);
}

/** An input of zeros, one row of what varies. */
function exampleOf({ name, shape, type }: TensorSpec) {
  const one = (shape ?? [1]).map((axis) => (axis === -1 ? 1 : axis));
  const count = one.reduce((product, axis) => product * axis, 1);
  // A whole picture is no line to copy.
  const data = count > 64 ? [`${count} values`] : new Array(count).fill(type === 'BYTES' ? '' : 0);
  return { name, shape: one, datatype: type, data };
}
