/**
 * Our own attention alone: one token over a long cache, a layer after the other, beside a plain read of as many bytes, on as many threads
 * as there are ranks.
 *
 * In      options: see HELP
 * Out     a table: µs a layer (median and least of the rounds), bytes of keys and values read a second, and their share of the plain read
 * How     caches larger than the processor's, one sequence after the other, so that all rows come from memory; a sequence of attention and
 *         a read of as many bytes take turns, and all threads begin together
 * Errors  a sentence and exit code 1
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { spread } from '../spread.js';
import { wholeNumber } from '../whole-number.js';
import type { AttentionTimes, AttentionWork } from './attention-worker.js';

const HELP = `Usage: node dist/bench/kernels/attention.js [options]

  --heads N        query heads of a rank (default 16)
  --kv-heads N     of keys and values (default 2)
  --dim N          columns of a head (default 64)
  --type T         fp32, fp16 or int8 (default fp32)
  --rows N,N       rows that a token sees (default 1024,4096)
  --sequences N    of a step, a token each (default 1)
  --others N       rows that the tokens of all but the first sequence see (default: as many)
  --threads N      ranks, a thread each (default 2)
  --megabytes N    of a thread's cache (default 384)
  --rounds N       through the whole cache (default 5)`;

const TYPES = ['fp32', 'fp16', 'int8'] as const;

process.exitCode = await main(process.argv.slice(2));

async function main(argv: string[]): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      heads: { type: 'string', default: '16' },
      'kv-heads': { type: 'string', default: '2' },
      dim: { type: 'string', default: '64' },
      type: { type: 'string', default: 'fp32' },
      rows: { type: 'string', default: '1024,4096' },
      sequences: { type: 'string', default: '1' },
      others: { type: 'string' },
      threads: { type: 'string', default: '2' },
      megabytes: { type: 'string', default: '384' },
      rounds: { type: 'string', default: '5' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const type = TYPES.find((name) => name === values.type);
  if (!type || kernelLibrary() === null) {
    console.error(type ? 'this machine has no library of our own kernels' : `--type is ${values.type}`);
    return 1;
  }
  const threads = wholeNumber('threads', values.threads, 1);
  const shape = {
    heads: wholeNumber('heads', values.heads, 1),
    kvHeads: wholeNumber('kv-heads', values['kv-heads'], 1),
    dim: wholeNumber('dim', values.dim, 1),
    type,
  };
  console.log(
    `${shape.heads} heads over ${shape.kvHeads} of ${shape.dim}, ${type}, ${threads} threads; ${cpus()[0]?.model}`,
  );
  for (const text of values.rows.split(',')) {
    const work: AttentionWork = {
      ...shape,
      rows: wholeNumber('rows', text, 1),
      sequences: wholeNumber('sequences', values.sequences, 1),
      others: wholeNumber('others', values.others ?? text, 1),
      bytes: wholeNumber('megabytes', values.megabytes, 1) * 1e6,
      rounds: wholeNumber('rounds', values.rounds, 1),
      turns: new Int32Array(new SharedArrayBuffer(4)),
      threads,
    };
    const ranks = await Promise.all(Array.from({ length: threads }, () => inThread(work)));
    // A layer is through when the last rank is.
    const slowest = (of: (times: AttentionTimes) => number[]): number[] =>
      of(ranks[0]!).map((_, index) => Math.max(...ranks.map((times) => of(times)[index]!)));
    const [attention, read] = [spread(slowest(({ us }) => us)), spread(slowest(({ readUs }) => readUs))];
    const bytes = ranks[0]!.layerBytes;
    console.log(
      `${String(work.rows).padStart(6)} rows  ${attention.median.toFixed(0)} µs a layer, least ${attention.min.toFixed(0)}; ` +
        `${((threads * bytes) / attention.median / 1e3).toFixed(1)} GB/s; plain read ${read.median.toFixed(0)} µs, ` +
        `share ${((100 * read.median) / attention.median).toFixed(0)} %`,
    );
  }
  return 0;
}

function inThread(workerData: AttentionWork): Promise<AttentionTimes> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./attention-worker.js', import.meta.url), { workerData });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}
