/**
 * The server under load, as clients see it: bursts of completions at once, and a long prompt beside streams; policies and other
 * servers in turns, in one run.
 *
 * In      options: see HELP
 * Out     a table: output tokens a second, time to first token, time a token, largest gap
 * How     our own client (http/client-process.ts, a process of its own that counts events and parses none): it knows what no
 *         load generator of the npm index measures, when each token of a stream came, and talks to any server of OpenAI's
 *         completions, so peers meet the same client
 * Errors  a sentence and exit code 1
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { shapeFolder } from '../../partitioner/named-shapes.js';
import { usableCores } from '../../server/machine/machine-limits.js';
import { ServerUnderTest } from '../../tuner/target/server-under-test.js';
import { writeRandomCheckpoint } from '../http/random-checkpoint.js';
import { wholeNumber } from '../whole-number.js';
import { type LoadTarget, measureBeside, measureBurst } from './load.js';
import { LoadingTimes } from './loading-times.js';
import { serverMemory, weightBytes } from './server-memory.js';
import { renderServing } from './serving-report.js';

const HELP = `Usage: npm run bench:serving -- [options]

  --model NAME        a shape of partitioner/shapes (default tinyllama-1.1b)
  --clients N,N       requests at once (default 1,8,32,128)
  --sizes IN/OUT,…    tokens of prompt and answer (default 128/64,1024/128)
  --scheduling A,B    policies of ours, a server each (default balanced)
  --peer NAME=URL,MODEL   another server of /v1/completions that runs already; may be given again
  --beside N          tokens of a prompt beside 8 streams (default 1500; 0: not measured)
  --within S          seconds of a burst (default 3600); what runs longer is cut, and the line says so
  --rounds N          of each measurement, servers in turns (default 3)
  --tp N              ranks (default 2), a thread each
  --store DIR         where checkpoint and shards are kept (default: a temporary folder, deleted at the end)`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      model: { type: 'string', default: 'tinyllama-1.1b' },
      clients: { type: 'string', default: '1,8,32,128' },
      sizes: { type: 'string', default: '128/64,1024/128' },
      scheduling: { type: 'string', default: 'balanced' },
      peer: { type: 'string', multiple: true, default: [] },
      beside: { type: 'string', default: '1500' },
      within: { type: 'string', default: '3600' },
      rounds: { type: 'string', default: '3' },
      tp: { type: 'string', default: '2' },
      store: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const clients = values.clients.split(',').map((text) => wholeNumber('clients', text, 1));
  const sizes = values.sizes.split(',').map((text) => {
    const [prompt = '', answer = ''] = text.split('/');
    return { prompt: wholeNumber('sizes', prompt, 1), answer: wholeNumber('sizes', answer, 2) };
  });
  const rounds = wholeNumber('rounds', values.rounds, 1);
  const withinMs = 1000 * wholeNumber('within', values.within, 1);
  const beside = wholeNumber('beside', values.beside, 0);
  const store = values.store ?? path.join(tmpdir(), `shardserve-bench-serving-${process.pid}`);
  const models = path.join(store, 'models');
  const modelFolder = path.join(models, values.model);
  const stops: (() => unknown)[] = [];
  try {
    mkdirSync(models, { recursive: true });
    if (!existsSync(modelFolder)) await writeRandomCheckpoint(shapeFolder(values.model), modelFolder);
    const targets: LoadTarget[] = [];
    const servers: ServerUnderTest[] = [];
    for (const scheduling of values.scheduling.split(',')) {
      const loading = new LoadingTimes();
      const server = await ServerUnderTest.start(
        {
          SERVING_LOAD_MODELS: `bench=${modelFolder}`,
          SERVING_MODEL_STORE: models,
          SERVING_SHARD_STORE: store,
          TENSOR_PARALLEL_DEGREE: values.tp,
          OPTION_THREADS_PER_RANK: '1',
          OPTION_DTYPE: 'int4',
          OPTION_SCHEDULING: scheduling,
          OPTION_MAX_ROLLING_BATCH_SIZE: String(Math.max(32, ...clients)),
          OPTION_PREDICT_TIMEOUT: '3600',
          JOB_QUEUE_SIZE: '1000',
        },
        null,
        (line) => loading.take(line),
      );
      stops.push(() => server.stop());
      servers.push(server);
      targets.push({ name: scheduling, url: server.url, model: 'bench' });
      console.log(loading.sentence(weightBytes(store)));
    }
    for (const peer of values.peer) {
      const [, name, url, model] = /^([^=]+)=([^,]+),(.+)$/.exec(peer) ?? [];
      if (!name || !url || !model) throw new Error(`--peer is ${peer}; it must be NAME=URL,MODEL`);
      targets.push({ name, url, model });
    }
    console.log(
      `${values.model}, int4, tp ${values.tp}, ${cpus()[0]?.model ?? 'unknown'}, ${usableCores()} cores; medians of ${rounds} rounds in turns`,
    );
    let seed = 0;
    for (const size of sizes) {
      for (const count of clients) {
        const rows = targets.map((target) => ({
          name: target.name,
          rounds: [] as Awaited<ReturnType<typeof measureBurst>>[],
        }));
        for (let round = 0; round < rounds; round++) {
          for (const [at, target] of targets.entries())
            rows[at]!.rounds.push(await measureBurst(target, count, size, ++seed, withinMs));
        }
        console.log(renderServing(`${count} clients, ${size.prompt} in / ${size.answer} out`, rows));
      }
    }
    if (beside > 0) {
      const rows = targets.map((target) => ({
        name: target.name,
        rounds: [] as Awaited<ReturnType<typeof measureBurst>>[],
      }));
      for (let round = 0; round < rounds; round++) {
        for (const [at, target] of targets.entries())
          rows[at]!.rounds.push(await measureBeside(target, 8, beside, ++seed));
      }
      console.log(
        renderServing(`a prompt of ${beside} beside 8 streams (first token: its own; gaps: theirs)`, rows),
      );
    }
    for (const server of servers) console.log(await serverMemory(server, store));
    return 0;
  } finally {
    for (const stop of stops.reverse()) await stop();
    if (values.store === undefined) rmSync(store, { recursive: true, force: true });
  }
}
