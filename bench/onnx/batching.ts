/**
 * What dynamic batching gives and costs: requests of one row each by the whole server (or at the engine's door), beside a bare loop over the
 * session at the same batch, and beside the same server without batching, in turns.
 *
 * Run     node dist/bench/onnx/batching.js [--layers N] [--width N] [--batch N] [--clients N] [--rounds N] [--seconds N] [--body json|npy|door]
 *           [--cpu-prof DIR]
 * In      a multilayer perceptron of random weights, by default of 64 MB, a third of a millisecond a row; one thread for either side
 * Out     rows a second of loop, server, and server without batching, their ratios (medians of the rounds); processor time a request of
 *         the server, of the model's process, of the clients here
 * Limits  clients are in this process, which takes a core of its own: with two cores the server shares one with them
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pino from 'pino';
import { OnnxWriter } from '../../partitioner/graph/onnx-writer.js';
import { loadConfig } from '../../server/config/load-config.js';
import { OnnxEngine } from '../../server/engines/onnx/onnx-engine.js';
import { WorkLoadManager } from '../../server/work-load-manager/work-load-manager.js';
import { Random } from '../../tuner/load/random.js';
import { processSeconds } from '../../tuner/target/cpu-use.js';
import { processTree } from '../../tuner/target/process-readings.js';
import { ServerUnderTest } from '../../tuner/target/server-under-test.js';
import { spread } from '../spread.js';
import { wholeNumber } from '../whole-number.js';
import type { LoopAnswer, LoopCall } from './bare-loop.js';
import { PlainClient } from './plain-client.js';

const LOOP = fileURLToPath(new URL('./bare-loop.js', import.meta.url));
const MODEL = 'perceptron';
const WEIGHTS = 'weights.bin';
/** The same, a row a batch. */
const SINGLE = 'single';
/** door: a work load manager in this process, without HTTP. */
const BODIES = ['json', 'npy', 'door'] as const;

interface Sizes {
  layers: number;
  width: number;
}

/** x [n, width] → y [n, width], and its weights, which lie in a file beside it. */
function perceptron({ layers, width }: Sizes): { graph: Uint8Array; weights: Uint8Array } {
  const graph = new OnnxWriter(MODEL);
  const random = new Random(0, 'weights');
  const deviation = Math.sqrt(12 / width);
  const weights = Float32Array.from(
    { length: layers * width * width },
    () => (random.uniform() - 0.5) * deviation,
  );
  const bytes = 4 * width * width;
  let x = graph.input('x', 'float32', ['n', width]);
  for (let layer = 0; layer < layers; layer++) {
    const stored = { location: WEIGHTS, offset: layer * bytes, bytes };
    const own = graph.weight(`w${layer}`, { type: 'float32', shape: [width, width], ...stored });
    const product = graph.node('MatMul', [x, own], [`p${layer}`]);
    x = graph.node('Tanh', [product], [layer === layers - 1 ? 'y' : `h${layer}`]);
  }
  graph.output('y', 'float32', ['n', width]);
  return { graph: graph.encode('0'), weights: new Uint8Array(weights.buffer) };
}

class Loop {
  readonly #child: ChildProcess = fork(LOOP, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });

  ask(call: LoopCall): Promise<LoopAnswer> {
    return new Promise((resolve, reject) => {
      this.#child.once('message', (answer) => resolve(answer as LoopAnswer));
      this.#child.once('error', reject);
      this.#child.send(call);
    });
  }

  close(): void {
    this.#child.disconnect();
  }
}

function bodyOf(kind: 'json' | 'npy', width: number): { type: string; body: Buffer } {
  const values = Float32Array.from({ length: width }, (_, at) => ((at * 37) % 101) / 101);
  if (kind === 'json') {
    const short = Array.from(values, (value) => Number(value.toPrecision(6)));
    return { type: 'application/json', body: Buffer.from(JSON.stringify({ inputs: { x: [short] } })) };
  }
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (1, ${width}), }`;
  const head = text.padEnd(64 * Math.ceil((text.length + 11) / 64) - 11, ' ').concat('\n');
  const length = Buffer.alloc(2);
  length.writeUInt16LE(head.length);
  const magic = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]);
  return {
    type: 'tensor/npy',
    body: Buffer.concat([magic, length, Buffer.from(head), Buffer.from(values.buffer)]),
  };
}

/** What the requests go to. */
interface Side {
  /** One request to a model. @throws Error: it was refused */
  one(model: string): Promise<void>;
  /** The server's process, and those of the models. */
  pid: number;
  children: readonly number[];
  close(): Promise<void>;
}

async function httpSide(
  store: string,
  kind: 'json' | 'npy',
  { clients, profile, width }: { clients: number; profile: string | null; width: number },
): Promise<Side> {
  const server = await ServerUnderTest.start({ SERVING_MODEL_STORE: store }, profile);
  const { body, type } = bodyOf(kind, width);
  const { host } = new URL(server.url);
  const requestTo = (model: string): Buffer => {
    const lines = [`POST /predictions/${model} HTTP/1.1`, `host: ${host}`, `content-type: ${type}`];
    return Buffer.concat([
      Buffer.from(`${[...lines, `content-length: ${body.length}`].join('\r\n')}\r\n\r\n`),
      body,
    ]);
  };
  const requests = new Map([MODEL, SINGLE].map((model) => [model, requestTo(model)]));
  const all = Array.from({ length: clients }, () => new PlainClient(server.url));
  const free = [...all];
  return {
    pid: server.pid,
    children: processTree(server.pid).filter((pid) => pid !== server.pid),
    one: async (model) => {
      const client = free.pop()!;
      const status = await client.send(requests.get(model)!);
      free.push(client);
      if (status !== 200) throw new Error(`the server answered ${status}`);
    },
    close: async () => {
      for (const client of all) client.close();
      await server.stop();
    },
  };
}

async function doorSide(store: string, width: number): Promise<Side> {
  const { models } = loadConfig({
    argv: ['-s', store],
    env: {},
    cwd: store,
    installation: store,
  });
  const manager = new WorkLoadManager({
    engineOf: () => new OnnxEngine(),
    logger: pino({ level: 'silent' }),
  });
  for (const model of models) await manager.load(model);
  const bytes = new Uint8Array(
    Float32Array.from({ length: width }, (_, at) => ((at * 37) % 101) / 101).buffer,
  );
  const inputs = [{ name: 'x', type: 'FP32' as const, shape: [1, width], bytes }];
  const asked = { kind: 'predict', requestId: 'r', version: null, inputs, outputs: null } as const;
  return {
    pid: process.pid,
    children: manager
      .describe(MODEL, null)
      .flatMap(({ groups }) => groups.flatMap(({ ranks }) => ranks[0]?.pid ?? [])),
    one: async (model) => {
      const { events } = await manager.submit({ ...asked, model }, new AbortController().signal);
      for await (const _event of events);
    },
    close: () => manager.close(),
  };
}

/** Requests that were answered until then. */
async function load({ one }: Side, model: string, clients: number, forMs: number): Promise<number> {
  const untilMs = performance.now() + forMs;
  let count = 0;
  const client = async (): Promise<void> => {
    while (performance.now() < untilMs) {
      await one(model);
      count++;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return count;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...{ layers: { type: 'string', default: '16' }, width: { type: 'string', default: '1024' } },
      ...{ batch: { type: 'string', default: '32' }, clients: { type: 'string', default: '64' } },
      ...{ rounds: { type: 'string', default: '7' }, seconds: { type: 'string', default: '2' } },
      ...{ body: { type: 'string', default: 'npy' }, 'cpu-prof': { type: 'string' } },
    },
  });
  const number = (name: Exclude<keyof typeof values, 'body' | 'cpu-prof'>): number =>
    wholeNumber(name, values[name], 1);
  const [batch, clients, rounds, width] = [
    number('batch'),
    number('clients'),
    number('rounds'),
    number('width'),
  ];
  const kind = BODIES.find((one) => one === values.body);
  if (kind === undefined) throw new Error(`--body is ${values.body}; it must be ${BODIES.join(' or ')}`);
  const store = mkdtempSync(path.join(tmpdir(), 'shardserve-batching-'));
  const { graph, weights } = perceptron({ layers: number('layers'), width });
  for (const [name, most] of [
    [MODEL, batch],
    [SINGLE, 1],
  ] as const) {
    mkdirSync(path.join(store, name));
    writeFileSync(path.join(store, name, 'model.onnx'), graph);
    writeFileSync(path.join(store, name, WEIGHTS), weights);
    writeFileSync(
      path.join(store, name, 'serving.properties'),
      `batch_size=${most}\nmax_batch_delay=5\noption.threads_per_rank=1\nminWorkers=1\nmaxWorkers=1\n`,
    );
  }
  const profile = values['cpu-prof'] ?? null;
  const side =
    kind === 'door' ? await doorSide(store, width) : await httpSide(store, kind, { clients, profile, width });
  const loop = new Loop();
  try {
    const file = path.join(store, MODEL, 'model.onnx');
    await loop.ask({ call: 'open', file, rows: batch, width, threads: 1 });
    const sliceMs = 1000 * number('seconds');
    const probe = await loop.ask({ call: 'run', batches: 20 });
    const batches = Math.max(1, Math.round((20 * sliceMs) / probe.ms));
    await load(side, MODEL, clients, 1000);
    const ratios = { loop: [] as number[], single: [] as number[] };
    const rows = { loop: [] as number[], server: [] as number[], single: [] as number[] };
    const cpuUs = {
      loop: [] as number[],
      server: [] as number[],
      model: [] as number[],
      clients: [] as number[],
    };
    for (let round = 0; round < rounds; round++) {
      const bare = await loop.ask({ call: 'run', batches });
      const before = [processSeconds(side.pid), sum(side.children.map(processSeconds))] as const;
      const own = process.cpuUsage();
      const startedMs = performance.now();
      const count = await load(side, MODEL, clients, sliceMs);
      const tookMs = performance.now() - startedMs;
      const used = process.cpuUsage(own);
      const after = [processSeconds(side.pid), sum(side.children.map(processSeconds))] as const;
      const singleMs = performance.now();
      const single = (1000 * (await load(side, SINGLE, clients, sliceMs))) / (performance.now() - singleMs);
      const bareRows = (1000 * batches * batch) / bare.ms;
      const served = (1000 * count) / tookMs;
      rows.loop.push(bareRows);
      rows.server.push(served);
      rows.single.push(single);
      ratios.loop.push(served / bareRows);
      ratios.single.push(served / single);
      cpuUs.loop.push((1000 * bare.cpuMs) / (batches * batch));
      cpuUs.server.push((1e6 * (after[0] - before[0])) / count);
      cpuUs.model.push((1e6 * (after[1] - before[1])) / count);
      cpuUs.clients.push((used.user + used.system) / count);
    }
    const told = (name: string, all: readonly number[], digits: number): string => {
      const { max, median, min } = spread(all);
      return `${name.padEnd(34)} ${[median, min, max].map((one) => one.toFixed(digits).padStart(10)).join('')}`;
    };
    const lines = [
      `batch ${batch}, ${clients} clients, ${kind}; median, least, most of ${rounds} rounds in turns`,
      told('rows/s of the bare loop', rows.loop, 0),
      told('rows/s of the server', rows.server, 0),
      told('rows/s of the server, no batching', rows.single, 0),
      told('server / loop', ratios.loop, 3),
      told('server / server without batching', ratios.single, 2),
      told('µs of CPU a row, bare loop', cpuUs.loop, 1),
      told("µs of CPU a row, model's process", cpuUs.model, 1),
      told('µs of CPU a request, server', cpuUs.server, 1),
      ...(kind === 'door' ? [] : [told('µs of CPU a request, clients', cpuUs.clients, 1)]),
    ];
    process.stdout.write(`${lines.join('\n')}\n`);
  } finally {
    loop.close();
    await side.close();
    rmSync(store, { recursive: true, force: true });
  }
  return 0;
}

const sum = (values: readonly number[]): number => values.reduce((total, one) => total + one, 0);

if (process.argv[1]?.endsWith('batching.js')) process.exitCode = await main(process.argv.slice(2));
