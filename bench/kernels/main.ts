/**
 * Our own kernels alone: all linears of a rank, one after the other, for several numbers of rows, on as many threads as there are ranks.
 *
 * In      options: see HELP
 * Out     a table: ms a pass (least and median of the rounds), weights read a second, products a second and thread
 * How     every thread has a rank's weights of its own, larger than the caches; rows take turns, and all threads begin a pass together
 * Errors  a sentence and exit code 1
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { shapeFolder } from '../../partitioner/named-shapes.js';
import { planPartition } from '../../partitioner/partition.js';
import type { Dtype } from '../../partitioner/quantise/weight-format.js';
import { kernelLibrary } from '../../proto/kernel-library.js';
import { spread } from '../spread.js';
import { wholeNumber } from '../whole-number.js';
import type { BenchLinear, PassTimes, RankWork } from './rank-worker.js';

const HELP = `Usage: node dist/bench/kernels/main.js [options]

  --model NAME     a shape of partitioner/shapes (default tinyllama-1.1b)
  --tp N           ranks, a thread each (default 2)
  --dtype D        fp32, fp16, bf16, int8 or int4 (default int4)
  --block-size N   weights that share a scale (default 32)
  --activations N  bits that rows are rounded to, 8 or 16 (default: by the model's size)
  --rows N,N       rows of a pass (default 1,2,4,8,16,32,128,512)
  --variant N      set of instructions, from 0, the portable one (default: the best)
  --rounds N       of all numbers of rows (default 9)`;

process.exitCode = await main(process.argv.slice(2));

async function main(argv: string[]): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      model: { type: 'string', default: 'tinyllama-1.1b' },
      tp: { type: 'string', default: '2' },
      dtype: { type: 'string', default: 'int4' },
      'block-size': { type: 'string', default: '32' },
      activations: { type: 'string' },
      rows: { type: 'string', default: '1,2,4,8,16,32,128,512' },
      variant: { type: 'string' },
      rounds: { type: 'string', default: '9' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const library = kernelLibrary();
  if (library === null) {
    console.error('this machine has no library of our own kernels');
    return 1;
  }
  const tp = wholeNumber('tp', values.tp, 1);
  const rows = values.rows.split(',').map((text) => wholeNumber('rows', text, 1));
  const { plan } = await planPartition({
    ...{ folder: shapeFolder(values.model), tp, dtype: values.dtype as Dtype, layout: 'panels' },
    blockSize: wholeNumber('block-size', values['block-size'], 1),
    ...(values.activations === undefined ? {} : { activationBits: values.activations === '16' ? 16 : 8 }),
  });
  const linears = plan.items.flatMap((item): BenchLinear[] => {
    if (item.kind !== 'linear' || item.panels === null) return [];
    const { bits, bfloat, blockSize, zero } = item.panels;
    const { inputs, outputs, weight } = item;
    const wide = blockSize > 0 && plan.format.activationBits === 16;
    return [{ bits, block: blockSize, zero, bfloat, wide, inputs, outputs, bytes: weight.bytes }];
  });
  const work: RankWork = {
    ...{ library, linears, rows, rounds: wholeNumber('rounds', values.rounds, 1) },
    variant: values.variant === undefined ? null : wholeNumber('variant', values.variant, 0),
    turns: new Int32Array(new SharedArrayBuffer(4)),
    threads: tp,
  };
  const ranks = await Promise.all(Array.from({ length: tp }, () => inThread(work)));
  const bytes = linears.reduce((sum, linear) => sum + linear.bytes, 0);
  const products = linears.reduce((sum, { inputs, outputs }) => sum + inputs * outputs, 0);
  console.log(
    `${values.model}, ${values.dtype} in blocks of ${values['block-size']}, rows of ${plan.format.activationBits ?? 32} bits, a rank of ${tp}: ${(bytes / 1e6).toFixed(0)} MB; ` +
      `${ranks[0]!.variant}; ${cpus()[0]?.model}`,
  );
  for (const [index, count] of rows.entries()) {
    // A pass is over when the last rank is.
    const passes = ranks[0]!.ms[index]!.map((_, round) =>
      Math.max(...ranks.map((of) => of.ms[index]![round]!)),
    );
    const { min, median } = spread(passes);
    console.log(
      `${String(count).padStart(5)} rows  ${min.toFixed(1)} ms, median ${median.toFixed(1)}; ` +
        `${((tp * bytes) / min / 1e6).toFixed(1)} GB/s, ${((count * products) / min / 1e6).toFixed(0)} · 10⁹ products a second and thread`,
    );
  }
  return 0;
}

function inThread(workerData: RankWork): Promise<PassTimes> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./rank-worker.js', import.meta.url), { workerData });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}
