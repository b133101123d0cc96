/**
 * Shardserve beside llama.cpp: the same shape, block-wise 4-bit weights, threads and work, in pairs on one machine.
 *
 * In      options: see HELP
 * Out     a table; with --json two lines: every pair, then `{"ratios": {…}}`, medians of the pairs' ratios (above 1: ours is
 *         faster)
 * How     ours is a group of two ranks with a thread each, as the server starts it; llama.cpp is a process with two threads.
 *         Each measures itself while the other sleeps, a pair at a time (contest.ts)
 * Errors  a sentence and exit code 1
 */
import { existsSync, mkdirSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { shapeFolder } from '../../partitioner/named-shapes.js';
import { partition } from '../../partitioner/partition.js';
import { DEFAULT_COLLECTIVE } from '../../server/config/config.js';
import { usableCores } from '../../server/machine/machine-limits.js';
import { GroupUnderTest } from '../group-under-test.js';
import { spread } from '../spread.js';
import { Contest, positionsOf, WORKS, type Work } from './contest.js';
import { readLlamaSizes, writeGguf } from './gguf-file.js';
import { installLlama, LlamaPeer } from './llama-peer.js';

const RANKS = 2;
const PROMPT_CHUNK_TOKENS = 512;

const HELP = `Usage: npm run bench:peers -- [options]

  --model NAME      a Llama shape of partitioner/shapes (default tinyllama-1.1b)
  --only W[,W]      ${WORKS.map(({ name }) => name).join(', ')} (default: all)
  --repeat N        rounds (default 5); a pair beside a busy neighbour is done again, in twice as many rounds at most
  --block-size N    of our int4 (default 128); llama.cpp's Q4_0 has 32
  --store DIR       where shards and the GGUF file are kept (default: a folder in the system's temporary folder)
  --json            every pair on one line, the ratios on the last

The first run installs node-llama-cpp (some 85 MB) into bench/peers/node_modules.`;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      model: { type: 'string', default: 'tinyllama-1.1b' },
      only: { type: 'string' },
      repeat: { type: 'string', default: '5' },
      'block-size': { type: 'string', default: '128' },
      store: { type: 'string', default: path.join(tmpdir(), 'shardserve-bench') },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const works = chosenWorks(values.only);
  const repeat = Number(values.repeat);
  const blockSize = Number(values['block-size']);
  const folder = shapeFolder(values.model);
  const version = installLlama();
  const gguf = path.join(values.store, `${values.model}-q4_0.gguf`);
  mkdirSync(values.store, { recursive: true });
  if (!existsSync(gguf)) writeGguf(gguf, readLlamaSizes(folder));
  const { manifest, shardFolder } = await partition({
    folder,
    outStore: values.store,
    tp: RANKS,
    dtype: 'int4',
    blockSize,
    randomWeights: true,
  });
  const ours = await GroupUnderTest.start({
    shardFolder,
    manifest,
    workerProgram: fileURLToPath(new URL('../../shard-worker/main.js', import.meta.url)),
    threads: 1,
    maxSlots: works.reduce((sum, { sequences }) => sum + sequences, 0),
    slotTokens: Math.max(...works.map((work) => positionsOf(work, repeat))),
    maxStepTokens: PROMPT_CHUNK_TOKENS,
    collective: DEFAULT_COLLECTIVE,
  });
  let theirs: LlamaPeer | null = null;
  try {
    theirs = await LlamaPeer.start(gguf, RANKS);
    const contests = await runContests(works, repeat, ours, theirs);
    const machine = `${cpus()[0]?.model ?? 'unknown'}, ${usableCores()} cores`;
    const peer = `node-llama-cpp ${version}`;
    if (values.json) {
      const { info } = theirs;
      console.log(
        JSON.stringify({
          model: values.model,
          blockSize,
          machine,
          peer,
          info,
          works: contests.map(details),
        }),
      );
      const ratios = contests.map((contest) => [contest.work.name, round(ratioOf(contest).median)]);
      console.log(JSON.stringify({ ratios: Object.fromEntries(ratios) }));
    } else {
      console.log(`${values.model}, int4-${blockSize} against Q4_0 of ${peer}; ${machine}\n`);
      for (const contest of contests) console.log(tableRow(contest));
    }
    return 0;
  } finally {
    theirs?.stop();
    await ours.stop();
  }
}

function chosenWorks(only: string | undefined): readonly Work[] {
  if (only === undefined) return WORKS;
  return only.split(',').map((name) => {
    const work = WORKS.find((known) => known.name === name);
    if (!work) {
      throw new Error(`--only is ${name}; it must be one of ${WORKS.map((known) => known.name).join(', ')}`);
    }
    return work;
  });
}

/** All are open at once and take turns, so that a slow minute of the machine meets all of them. */
async function runContests(
  works: readonly Work[],
  repeat: number,
  ours: GroupUnderTest,
  theirs: LlamaPeer,
): Promise<Contest[]> {
  const contests: Contest[] = [];
  let slot = 0;
  for (const work of works) {
    const contest = new Contest(work, ours, theirs, slot);
    await contest.open(repeat);
    contests.push(contest);
    slot += work.sequences;
  }
  const isWanting = ({ pairs, work }: Contest): boolean =>
    pairs.filter(({ isClean }) => isClean).length < repeat * work.pairs;
  for (let round = 0; round < 2 * repeat; round++) {
    for (const contest of contests.filter(isWanting)) {
      await contest.rewind();
      for (let pair = 0; pair < contest.work.pairs; pair++) await contest.measure((round + pair) % 2 === 0);
    }
  }
  return contests;
}

/** Where too few are clean, all count, and the mark says so. */
function counted({ pairs }: Contest) {
  const clean = pairs.filter(({ isClean }) => isClean);
  return clean.length * 2 >= pairs.length ? { pairs: clean, isNoisy: false } : { pairs, isNoisy: true };
}

const ratioOf = (contest: Contest) =>
  spread(counted(contest).pairs.map(({ oursMs, theirsMs }) => theirsMs / oursMs));

const round = (value: number): number => Math.round(value * 1000) / 1000;

function details(contest: Contest) {
  const { flashAttention, pairs, work } = contest;
  const { isNoisy, pairs: used } = counted(contest);
  return {
    ...work,
    flashAttention,
    isNoisy,
    oursMs: spread(used.map(({ oursMs }) => oursMs)),
    theirsMs: spread(used.map(({ theirsMs }) => theirsMs)),
    ratio: ratioOf(contest),
    pairs,
  };
}

function tableRow(contest: Contest): string {
  const { work } = contest;
  const { flashAttention, isNoisy, oursMs, pairs, ratio, theirsMs } = details(contest);
  const tokens = work.kind === 'prefill' ? work.tokens : work.sequences;
  const side = (ms: number): string =>
    `${ms.toFixed(2).padStart(8)} ms ${((tokens * 1000) / ms).toFixed(1).padStart(6)} tok/s`;
  const range = `${ratio.median.toFixed(3)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`;
  return (
    `${work.name.padEnd(11)} ours ${side(oursMs.median)}   llama.cpp ${side(theirsMs.median)}   ratio ${range}, ` +
    `${counted(contest).pairs.length} of ${pairs.length} pairs${flashAttention ? '' : ', no flash attention'}${isNoisy ? ', NOISY' : ''}`
  );
}
