/**
 * Shardserve beside llama.cpp and OpenVINO GenAI: the same shape, block-wise 4-bit weights, threads and work, in pairs on one machine.
 *
 * In      options: see HELP
 * Out     a table; with --json two lines: every pair, then `{"ratios": {…}}`, medians of the pairs' ratios (above 1: ours is
 *         faster)
 * How     ours is a group of two ranks with a thread each, as the server starts it; a peer is a process with two threads.
 *         Each measures itself while the other sleeps, a pair at a time (contest.ts)
 * Errors  a sentence and exit code 1
 */
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
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
import { OpenvinoPeer } from './openvino-peer.js';
import type { Peer } from './peer.js';

const RANKS = 2;
const PROMPT_CHUNK_TOKENS = 512;

const HELP = `Usage: npm run bench:peers -- [options]

  --model NAME      a Llama shape of partitioner/shapes (default tinyllama-1.1b)
  --only W[,W]      ${WORKS.map(({ name }) => name).join(', ')} (default: all)
  --repeat N        rounds (default 5); a pair beside a busy neighbour is done again, in twice as many rounds at most
  --block-size N    of our int4 (default 128); llama.cpp's Q4_0 has 32
  --store DIR       where shards and the GGUF file are kept (default: a folder in the system's temporary folder)
  --openvino PYTHON beside OpenVINO GenAI too: an interpreter whose environment has openvino-genai (absent: it is left out)
  --peers P[,P]     llama.cpp, OpenVINO (default: those that are there)
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
      openvino: { type: 'string' },
      peers: { type: 'string' },
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
  const { openvino } = values;
  const names = chosenPeers(values.peers, openvino);
  const gguf = path.join(values.store, `${values.model}-q4_0-distinct.gguf`);
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
    maxSlots: names.length * works.reduce((sum, { sequences }) => sum + sequences, 0),
    slotTokens: Math.max(...works.map((work) => positionsOf(work, repeat))),
    maxStepTokens: PROMPT_CHUNK_TOKENS,
    collective: DEFAULT_COLLECTIVE,
  });
  const peers: Peer[] = [];
  try {
    if (names.includes('llama.cpp')) peers.push(await LlamaPeer.start(gguf, RANKS));
    if (openvino !== undefined && names.includes('OpenVINO'))
      peers.push(await OpenvinoPeer.start(openvino, inFolderOfItsOwn(gguf), RANKS));
    const contests = await runContests(works, repeat, ours, peers);
    const machine = `${cpus()[0]?.model ?? 'unknown'}, ${usableCores()} cores`;
    if (values.json) {
      for (const { info, name } of peers) {
        const ofPeer = contests.filter(({ peer }) => peer.name === name);
        console.log(
          JSON.stringify({
            ...{ model: values.model, blockSize, machine, peer: name, info },
            works: ofPeer.map(details),
          }),
        );
        const ratios = ofPeer.map((contest) => [contest.work.name, round(ratioOf(contest).median)]);
        console.log(JSON.stringify({ peer: name, ratios: Object.fromEntries(ratios) }));
      }
    } else {
      console.log(`${values.model}, int4-${blockSize} against Q4_0; ${machine}`);
      for (const { info, name } of peers) console.log(`${name}: ${info}`);
      console.log();
      for (const contest of contests) console.log(tableRow(contest));
    }
    return 0;
  } finally {
    for (const peer of peers) peer.stop();
    await ours.stop();
  }
}

/** Those that are there, or that are named. */
function chosenPeers(named: string | undefined, openvino: string | undefined): string[] {
  const known = openvino === undefined ? ['llama.cpp'] : ['llama.cpp', 'OpenVINO'];
  const names = named?.split(',') ?? known;
  for (const name of names)
    if (!known.includes(name)) {
      const change =
        name === 'OpenVINO' ? '--openvino PYTHON says where it is' : `it must be of ${known.join(', ')}`;
      throw new Error(`--peers has ${name}: ${change}`);
    }
  if (!names.includes('OpenVINO')) console.error('OpenVINO GenAI is left out (--openvino PYTHON)');
  if (names.includes('llama.cpp')) installLlama();
  return names;
}

/** OpenVINO writes what it makes of a file beside it, under the same name for all. */
function inFolderOfItsOwn(file: string): string {
  const folder = file.replace(/\.gguf$/, '-openvino');
  const link = path.join(folder, path.basename(file));
  mkdirSync(folder, { recursive: true });
  if (!existsSync(link)) symlinkSync(file, link);
  return link;
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
  peers: readonly Peer[],
): Promise<Contest[]> {
  const contests: Contest[] = [];
  let slot = 0;
  for (const work of works) {
    for (const peer of peers) {
      const contest = new Contest(work, ours, peer, slot);
      await contest.open(repeat);
      contests.push(contest);
      slot += work.sequences;
    }
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
  const { pairs, variant, work } = contest;
  const { isNoisy, pairs: used } = counted(contest);
  return {
    ...work,
    variant,
    isNoisy,
    oursMs: spread(used.map(({ oursMs }) => oursMs)),
    theirsMs: spread(used.map(({ theirsMs }) => theirsMs)),
    ratio: ratioOf(contest),
    pairs,
  };
}

function tableRow(contest: Contest): string {
  const { work } = contest;
  const { isNoisy, oursMs, pairs, ratio, theirsMs, variant } = details(contest);
  const tokens = work.kind === 'prefill' ? work.tokens : work.sequences;
  const side = (ms: number): string =>
    `${ms.toFixed(2).padStart(8)} ms ${((tokens * 1000) / ms).toFixed(1).padStart(6)} tok/s`;
  const range = `${ratio.median.toFixed(3)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`;
  return (
    `${work.name.padEnd(11)} ours ${side(oursMs.median)}   ${contest.peer.name} ${side(theirsMs.median)}   ratio ${range}, ` +
    `${counted(contest).pairs.length} of ${pairs.length} pairs, ${variant}${isNoisy ? ', NOISY' : ''}`
  );
}
