/**
 * The process that runs one handler: user code, in a process of its own, with no environment and within its memory.
 *
 * In      ToHandler messages on its channel
 * Out     FromHandler messages; what the handler prints, on its standard streams; it ends when the channel closes
 * Limits  one batch at a time; memory by HandlerSetup.memoryMb; time by who asks
 * Errors  `failed`: it cannot be loaded; `threw`: a batch of its own. An exception outside of a batch ends the process
 *
 * The limits are for stability. The process has its user's rights: what it may run is the operator's decision (model-trust.ts).
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { limitData } from '../data-limit.js';
import { Context } from './context.js';
import { loadHandlerModule } from './handler-bundle.js';
import type { BuiltIn, FromHandler, HandlerSetup, ToHandler } from './handler-messages.js';
import { HandlerMetrics } from './handler-metrics.js';
import { handlerOf, type LoadedHandler } from './handler-shape.js';
import { bindModel, boundModel, LanguageModel } from './language-model.js';
import { modelYamlOf } from './model-yaml.js';
import { onnxSession } from './onnx-session.js';

const MAX_MESSAGE_CHARACTERS = 500;
const MAX_STACK_CHARACTERS = 8000;

const builtIn = async (name: BuiltIn, context: Context): Promise<LoadedHandler> =>
  name === 'pipeline'
    ? (await import('./builtin-pipeline.js')).builtInHandler(context)
    : (await import('./builtin-defaults.js')).builtInHandler(context, name);

let handler: LoadedHandler | null = null;
/** Those of the batch that runs. */
let clients: { id: number; aborts: AbortController[] } = { id: 0, aborts: [] };

const channel = process.send?.bind(process);
// Libraries that look for whoever has started them would speak in between.
delete process.send;
const send = (message: FromHandler): void => {
  channel?.(message, undefined, undefined, () => {});
};

const wordsOf = (error: unknown): string =>
  (error instanceof Error ? error.message || error.name : String(error)).slice(0, MAX_MESSAGE_CHARACTERS);

const stackOf = (error: unknown): string =>
  (error instanceof Error ? (error.stack ?? error.message) : String(error)).slice(0, MAX_STACK_CHARACTERS);

async function load({ entry, hasModel, memoryMb, ...setup }: HandlerSetup): Promise<void> {
  const manifest = path.join(entry.folder, 'MAR-INF', 'MANIFEST.json');
  const context = new Context({
    modelName: setup.modelName,
    modelVersion: setup.modelVersion,
    systemProperties: {
      model_dir: entry.folder,
      gpu_id: null,
      batch_size: setup.batchSize,
      threads: setup.threads,
      server_name: 'Shardserve',
    },
    manifest: existsSync(manifest) ? (JSON.parse(readFileSync(manifest, 'utf8')) as unknown) : null,
    modelYamlConfig: modelYamlOf(entry.folder),
    metrics: new HandlerMetrics(setup.modelName, (line) => send({ kind: 'metric', line })),
    properties: setup.properties,
  });
  if (hasModel) bindModel(new LanguageModel(send));
  const limit = (): void => limitData(memoryMb * 1024 * 1024);
  if (entry.builtIn === null) {
    handler = handlerOf(await loadHandlerModule(entry, limit), entry.exported, context);
  } else {
    limit();
    handler = await builtIn(entry.builtIn, context);
  }
  if (handler.takesContext) context.model = boundModel() ?? (await onnxSession(context));
  await handler.initialise();
}

async function run({ id, requests }: Extract<ToHandler, { kind: 'run' }>): Promise<FromHandler> {
  const aborts = requests.map(() => new AbortController());
  clients = { id, aborts };
  const started = process.hrtime.bigint();
  try {
    if (handler === null) throw new Error('no handler is loaded');
    const answers = await handler.run(requests, {
      head: (index, head) => send({ kind: 'head', id, index, head }),
      chunk: (index, bytes) => send({ kind: 'chunk', id, index, bytes }),
      signal: (index) => aborts[index]!.signal,
    });
    return { kind: 'answered', id, answers, us: Number((process.hrtime.bigint() - started) / 1000n) };
  } catch (error) {
    send({ kind: 'stack', text: stackOf(error) });
    return { kind: 'threw', id, message: wordsOf(error) };
  }
}

let line: Promise<void> = Promise.resolve();
process.setSourceMapsEnabled(true);
process.on('message', (message: ToHandler) => {
  if (message.kind === 'told') {
    boundModel()?.told(message);
    return;
  }
  if (message.kind === 'left') {
    if (message.id === clients.id) clients.aborts[message.index]?.abort();
    return;
  }
  line = line.then(async () => {
    if (message.kind === 'run') {
      send(await run(message));
      return;
    }
    try {
      await load(message.setup);
      send({ kind: 'loaded' });
    } catch (error) {
      send({ kind: 'failed', message: wordsOf(error), stack: stackOf(error) });
    }
  });
});
// Signals of the terminal and of a service manager reach every process of the server, which may still be draining.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('disconnect', () => process.exit());
