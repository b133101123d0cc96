/**
 * How many short texts a second a pipeline takes: lower, split, vocabulary (30,000 words), pad, over lists of texts, on threads.
 *
 * Run     node dist/bench/pipeline/texts.js [--threads N] [--list N] [--words N] [--seconds N] [--rounds N]
 * Out     texts a second by the clock and by the processor time of all threads; median, least and most of the rounds; of a round, how
 *         much of the machine others used
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { file, PipelinePool, type Traced, tensor, text, trace } from '../../pipeline/pipeline-api.js';
import { Random } from '../../tuner/load/random.js';
import { watchCpu } from '../../tuner/target/cpu-use.js';
import { spread } from '../spread.js';
import { wholeNumber } from '../whole-number.js';

const VOCABULARY = 30_000;
/** Lists that wait: so many that no thread is ever without one. */
const LISTS = 64;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...{ threads: { type: 'string', default: '2' }, list: { type: 'string', default: '256' } },
      ...{ words: { type: 'string', default: '8' }, seconds: { type: 'string', default: '3' } },
      rounds: { type: 'string', default: '5' },
    },
  });
  const number = (name: keyof typeof values): number => wholeNumber(name, values[name], 1);
  const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-texts-'));
  let pool: PipelinePool | null = null;
  try {
    const words = Array.from({ length: VOCABULARY }, (_, at) => `word${at}`);
    writeFileSync(path.join(folder, 'words.txt'), `${words.join('\n')}\n[UNK]\n`);
    const random = new Random(0, 'texts');
    const someText = (): string =>
      Array.from({ length: number('words') }, () => `Word${random.whole(VOCABULARY)}`).join(' ');
    const lists = Array.from({ length: LISTS }, () => Array.from({ length: number('list') }, someText));
    const [lower, split, pad] = [text.lower(), text.split(), tensor.pad()];
    const ids = text.vocabulary(file(path.join(folder, 'words.txt')));
    const traced = await trace((texts: Traced) => pad(ids(split(lower(texts)))), { texts: lists[0]! });
    const pack = path.join(folder, 'pack');
    await traced.save(pack);
    pool = await PipelinePool.open(pack, { threads: number('threads') });
    const feeds = lists.map((texts) => ({ texts }));
    await pool.map(feeds);
    const clock: number[] = [];
    const cpu: number[] = [];
    let others = 0;
    for (let round = 0; round < number('rounds'); round++) {
      const watched = watchCpu([process.pid]);
      const used = process.cpuUsage();
      const startedMs = performance.now();
      let count = 0;
      while (performance.now() - startedMs < 1000 * number('seconds')) {
        await pool.map(feeds);
        count += LISTS * number('list');
      }
      const { system, user } = process.cpuUsage(used);
      clock.push((1000 * count) / (performance.now() - startedMs));
      cpu.push((1e6 * count) / (user + system));
      others = Math.max(others, watched().others);
    }
    const told = (name: string, all: readonly number[]): string => {
      const { max, median, min } = spread(all);
      return `${name.padEnd(30)} ${[median, min, max].map((one) => one.toFixed(0).padStart(10)).join('')}`;
    };
    process.stdout.write(
      `${[
        `${values.threads} threads, lists of ${values.list} texts of ${values.words} words; median, least, most of ${values.rounds} rounds`,
        told('texts/s by the clock', clock),
        told('texts a second of CPU', cpu),
        `others used up to ${(100 * others).toFixed(0)} % of the machine`,
      ].join('\n')}\n`,
    );
  } finally {
    await pool?.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return 0;
}

if (process.argv[1]?.endsWith('texts.js')) process.exitCode = await main(process.argv.slice(2));
