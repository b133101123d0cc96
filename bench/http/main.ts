/**
 * The whole server beside its bare engine: tokens a second at the client's socket against tokens a second of a group without
 * a server, in one run, in turns.
 *
 * In      options: see HELP
 * Out     a table, or with --json one line a measurement
 * How     the server runs as `npm start` runs it; the clients are a process of their own; the engine is a second group on the
 *         same shards. One side measures while the other sleeps (side-by-side.ts). All share the machine's cores, so what
 *         server and clients use is missing to the ranks: that is the loss that is measured
 * Errors  a sentence and exit code 1
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { shapeFolder } from '../../partitioner/named-shapes.js';
import { partition } from '../../partitioner/partition.js';
import { DEFAULT_COLLECTIVE } from '../../server/config/config.js';
import { usableCores } from '../../server/machine/machine-limits.js';
import { ServerUnderTest } from '../../tuner/target/server-under-test.js';
import { GroupUnderTest } from '../group-under-test.js';
import { wholeNumber } from '../whole-number.js';
import { type HttpReport, httpJsonLines, renderHttp } from './http-report.js';
import { writeRandomCheckpoint } from './random-checkpoint.js';
import { measureFirstToken, measureStreams, type Sides, tokensOfStream } from './side-by-side.js';
import { StreamClients } from './stream-clients.js';

const BLOCK_SIZE = 128;
/** A rank warms up with a step of so many. */
const WARM_UP_TOKENS = 32;
const MODEL_NAME = 'bench';

const HELP = `Usage: npm run bench:http -- [options]

  --model NAME      a shape of partitioner/shapes (default tinyllama-1.1b)
  --streams N,N     streams at once (default 1,8,32)
  --prompt N        tokens of prompt of a stream (default 16)
  --steps N         steps of a slice (default 12), of the engine and of the server in turns
  --first N         tokens of prompt for the time to first token of one stream (default 128; 0: not measured)
  --tp N            ranks (default 2), a thread each
  --repeat N        quiet slices of each number of streams (default 10), and quiet pairs of the time to first token
  --cpu-prof DIR    write a CPU profile of the server there
  --store DIR       where the checkpoint and the shards are kept (default: a folder in the system's temporary folder,
                    deleted at the end)
  --json            a line a measurement instead of a table`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      model: { type: 'string', default: 'tinyllama-1.1b' },
      streams: { type: 'string', default: '1,8,32' },
      prompt: { type: 'string', default: '16' },
      steps: { type: 'string', default: '12' },
      first: { type: 'string', default: '128' },
      tp: { type: 'string', default: '2' },
      repeat: { type: 'string', default: '10' },
      'cpu-prof': { type: 'string' },
      store: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const store = values.store ?? path.join(tmpdir(), `shardserve-bench-http-${process.pid}`);
  const sizes = {
    streams: values.streams.split(',').map((text) => wholeNumber('streams', text, 1)),
    prompt: wholeNumber('prompt', values.prompt, 1),
    steps: wholeNumber('steps', values.steps, 3),
    first: wholeNumber('first', values.first, 0),
    repeat: wholeNumber('repeat', values.repeat, 1),
  };
  const tp = wholeNumber('tp', values.tp, 1);
  const most = Math.max(...sizes.streams);
  const models = path.join(store, 'models');
  const modelFolder = path.join(models, values.model);
  const stops: (() => unknown)[] = [];
  try {
    mkdirSync(models, { recursive: true });
    if (!existsSync(modelFolder)) await writeRandomCheckpoint(shapeFolder(values.model), modelFolder);
    const shards = {
      folder: modelFolder,
      outStore: store,
      tp,
      dtype: 'int4',
      blockSize: BLOCK_SIZE,
    } as const;
    const { manifest, shardFolder } = await partition(shards);
    const server = await ServerUnderTest.start(
      {
        SERVING_LOAD_MODELS: `${MODEL_NAME}=${modelFolder}`,
        SERVING_MODEL_STORE: models,
        SERVING_SHARD_STORE: store,
        TENSOR_PARALLEL_DEGREE: values.tp,
        OPTION_THREADS_PER_RANK: '1',
        OPTION_DTYPE: 'int4',
        OPTION_QUANTIZE_BLOCK_SIZE: String(BLOCK_SIZE),
        OPTION_MAX_ROLLING_BATCH_SIZE: String(most),
      },
      values['cpu-prof'] ?? null,
    );
    stops.push(() => server.stop());
    const engine = await GroupUnderTest.start({
      shardFolder,
      manifest,
      workerProgram: fileURLToPath(new URL('../../shard-worker/main.js', import.meta.url)),
      threads: 1,
      maxSlots: most,
      slotTokens: Math.max(sizes.prompt + most + tokensOfStream(most, sizes), sizes.first) + 8,
      maxStepTokens: Math.max(sizes.prompt + most, sizes.first, WARM_UP_TOKENS),
      collective: DEFAULT_COLLECTIVE,
    });
    stops.push(() => engine.stop());
    const clients = new StreamClients();
    stops.push(() => clients.stop());
    const sides: Sides = {
      clients,
      engine,
      model: MODEL_NAME,
      server,
      vocabSize: manifest.model.vocabSize,
    };
    const report: HttpReport = {
      model: values.model,
      machine: `${cpus()[0]?.model ?? 'unknown'}, ${usableCores()} cores`,
      sizes,
      streams: [],
      firstToken: null,
    };
    for (const streams of sizes.streams) report.streams.push(await measureStreams(sides, streams, sizes));
    if (sizes.first > 0) report.firstToken = await measureFirstToken(sides, sizes.first, sizes.repeat);
    console.log(values.json ? httpJsonLines(report) : renderHttp(report));
    return 0;
  } finally {
    for (const stop of stops.reverse()) await stop();
    if (values.store === undefined) rmSync(store, { recursive: true, force: true });
  }
}
