/**
 * What a form of the answer costs: streams that must fit a JSON schema beside free ones, in turns, through the whole server's sockets;
 * and the time a mask takes, with a large vocabulary.
 *
 * In      see HELP
 * Out     of each pair tokens a second, free and constrained, all streams together from their first token to their last; the median of
 *         the pairs' ratios and its interval of 95 % (from the pairs' order, whatever their distribution). Processor time a token of each kind of
 *         stream, by process: the server, the ranks, the form's, the others; it counts on a busy machine too. Masks: microseconds, of
 *         a new one and of one that is known. The last line is JSON
 * How     both kinds have the same prompts and as many tokens, others in each pair: the schema's list is longer than the answer may be. The order of a
 *         pair changes from pair to pair
 * Errors  the server's; exit code 1
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { shapeFolder } from '../partitioner/named-shapes.js';
import { TokenGrammar } from '../server/text/constraint/token-masks.js';
import { TokenTrie } from '../server/text/constraint/token-trie.js';
import { cpuSeconds, processTree } from '../tuner/target/process-readings.js';
import { ServerUnderTest } from '../tuner/target/server-under-test.js';
import { writeRandomCheckpoint } from './http/random-checkpoint.js';
import { spread } from './spread.js';
import { wholeNumber } from './whole-number.js';

const HELP = `Usage: npm run bench:constrained -- [options]

  --model NAME      a shape of partitioner/shapes, with random weights (default tinyllama-1.1b), or a checkpoint's folder with its tokenizer
  --dtype D         fp32, int8 or int4 (default int4)
  --tp N            ranks (default 2)
  --streams N,N     streams at once (default 1,8)
  --tokens N        tokens of a stream (default 64)
  --repeat N        pairs (default 16)
  --vocabulary N    tokens of the masks' vocabulary (default 128000; 0: masks are not measured)
  --store DIR       where the checkpoint and the shards are kept (default: a folder in the system's temporary folder, deleted at the end)`;

const MODEL_NAME = 'bench';
/** Members of a person: strings, numbers and a list of them, as a tool's arguments have. */
const SCHEMA = {
  type: 'array',
  minItems: 1000,
  items: {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 40 },
      age: { type: 'integer', minimum: 0, maximum: 150 },
      tags: { type: 'array', items: { enum: ['red', 'green', 'blue'] }, maxItems: 3 },
    },
    required: ['name', 'age', 'tags'],
  },
};
const MASK_TEXTS = 40;
const MASK_TOKENS = 200;

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      model: { type: 'string', default: 'tinyllama-1.1b' },
      dtype: { type: 'string', default: 'int4' },
      tp: { type: 'string', default: '2' },
      streams: { type: 'string', default: '1,8' },
      tokens: { type: 'string', default: '64' },
      repeat: { type: 'string', default: '16' },
      vocabulary: { type: 'string', default: '128000' },
      store: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const counts = values.streams.split(',').map((text) => wholeNumber('streams', text, 1));
  const tokens = wholeNumber('tokens', values.tokens, 2);
  const repeat = wholeNumber('repeat', values.repeat, 1);
  const vocabulary = wholeNumber('vocabulary', values.vocabulary, 0);
  const report: Record<string, unknown> = {};
  if (vocabulary > 0) Object.assign(report, measureMasks(vocabulary));
  const store = values.store ?? path.join(tmpdir(), `shardserve-bench-constrained-${process.pid}`);
  const models = path.join(store, 'models');
  mkdirSync(models, { recursive: true });
  const folder = existsSync(values.model) ? values.model : path.join(models, values.model);
  let server: ServerUnderTest | null = null;
  try {
    if (!existsSync(folder)) await writeRandomCheckpoint(shapeFolder(values.model), folder);
    server = await ServerUnderTest.start(
      {
        ...{ SERVING_LOAD_MODELS: `${MODEL_NAME}=${path.resolve(folder)}`, SERVING_MODEL_STORE: models },
        ...{ SERVING_SHARD_STORE: store, TENSOR_PARALLEL_DEGREE: values.tp, OPTION_DTYPE: values.dtype },
        OPTION_MAX_ROLLING_BATCH_SIZE: String(Math.max(...counts)),
      },
      null,
    );
    for (const streams of counts) {
      const ratios: number[] = [];
      const used = { free: new CpuUse(), constrained: new CpuUse() };
      // The first round teaches the chunk budget the machine's speed, and makes the schema ready.
      for (let round = 0; round <= repeat; round += 1) {
        const speeds = { free: 0, constrained: 0 };
        const order =
          round % 2 === 0 ? (['free', 'constrained'] as const) : (['constrained', 'free'] as const);
        for (const kind of order) {
          const before = cpuByProcess(server.pid);
          speeds[kind] = await speedOf(server.url, streams, tokens, round, kind === 'free');
          if (round > 0) used[kind].add(before, cpuByProcess(server.pid), streams * tokens);
        }
        if (round === 0) continue;
        ratios.push(speeds.constrained / speeds.free);
        console.log(
          `${streams} streams: free ${speeds.free.toFixed(1)} tokens/s, constrained ${speeds.constrained.toFixed(1)}`,
        );
      }
      const { median } = spread(ratios);
      const [least, most] = medianInterval(ratios);
      console.log(
        `${streams} streams: ${median.toFixed(3)} x (95 %: ${least.toFixed(3)} to ${most.toFixed(3)}); ms of a processor a token: free ${used.free}; constrained ${used.constrained}`,
      );
      report[`ratio${streams}`] = Number(median.toFixed(3));
      report[`interval${streams}`] = [least, most].map((ratio) => Number(ratio.toFixed(3)));
      report[`cpuMs${streams}`] = { free: used.free.aToken(), constrained: used.constrained.aToken() };
    }
    console.log(JSON.stringify(report));
    return 0;
  } finally {
    await server?.stop();
    if (values.store === undefined) rmSync(store, { recursive: true, force: true });
  }
}

type Part = 'server' | 'ranks' | 'form' | 'others';

const PARTS: readonly Part[] = ['server', 'ranks', 'form', 'others'];

/** Seconds of a processor that each part of the server has used so far. */
function cpuByProcess(server: number): Record<Part, number> {
  const pids: Record<Part, number[]> = { server: [], ranks: [], form: [], others: [] };
  for (const pid of processTree(server)) pids[pid === server ? 'server' : partOf(pid)].push(pid);
  return {
    server: cpuSeconds(pids.server),
    ranks: cpuSeconds(pids.ranks),
    form: cpuSeconds(pids.form),
    others: cpuSeconds(pids.others),
  };
}

function partOf(pid: number): Part {
  let command = '';
  try {
    command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // It has ended.
  }
  if (command.includes('shard-worker')) return 'ranks';
  return command.includes('constraint-program') ? 'form' : 'others';
}

/** What the streams of one kind have used. */
class CpuUse {
  readonly #seconds: Record<Part, number> = { server: 0, ranks: 0, form: 0, others: 0 };
  #tokens = 0;

  add(before: Record<Part, number>, after: Record<Part, number>, tokens: number): void {
    // A process that was started or has ended between is no difference of use.
    for (const part of PARTS) this.#seconds[part] += Math.max(0, after[part] - before[part]);
    this.#tokens += tokens;
  }

  /** Milliseconds. */
  aToken(): Record<string, number> {
    return Object.fromEntries(
      PARTS.map((part) => [part, Number(((1000 * this.#seconds[part]) / this.#tokens).toFixed(3))]),
    );
  }

  toString(): string {
    return Object.entries(this.aToken())
      .map(([part, ms]) => `${part} ${ms.toFixed(2)}`)
      .join(', ');
  }
}

/** Between which the median lies with 95 %: as many values below and above as a fair coin leaves out. All of them where they are few. */
function medianInterval(values: readonly number[]): [number, number] {
  const sorted = [...values].sort((a, b) => a - b);
  const outside = Math.max(0, Math.floor(sorted.length / 2 - 0.98 * Math.sqrt(sorted.length)) - 1);
  return [sorted[outside]!, sorted[sorted.length - 1 - outside]!];
}

/** Tokens a second of all streams, between the first token of the last that began and the end of the first that ended. */
async function speedOf(
  url: string,
  streams: number,
  tokens: number,
  round: number,
  isFree: boolean,
): Promise<number> {
  const times = await Promise.all(
    Array.from({ length: streams }, (_, index) => timesOf(url, round * streams + index, tokens, isFree)),
  );
  const from = Math.max(...times.map(([first]) => first!));
  const to = Math.min(...times.map((all) => all.at(-1)!));
  const within = times.reduce((sum, all) => sum + all.filter((at) => at > from && at <= to).length, 0);
  return (1000 * within) / (to - from);
}

/** When each token came. */
async function timesOf(url: string, seed: number, tokens: number, isFree: boolean): Promise<number[]> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model: MODEL_NAME, prompt: [300 + (seed % 100), 301, 302, 303], max_tokens: tokens, stream: true },
      // Both sample: masked and free tokens are chosen in the same way.
      ...{ temperature: 1, seed },
      // The form cannot end before the tokens do; what is free could.
      ...(isFree ? { ignore_eos: true } : { guided_json: SCHEMA }),
    }),
  });
  if (!response.ok || response.body === null) throw new Error(`${response.status}: ${await response.text()}`);
  const times: number[] = [];
  let rest = '';
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + piece).split('\n\n');
    rest = events.pop()!;
    const now = performance.now();
    // A token's text may be held back until it is certain: its event comes all the same.
    for (const event of events)
      if (event.startsWith('data: {') && event.includes('"finish_reason":null')) times.push(now);
  }
  if (times.length < tokens / 2) throw new Error(`only ${times.length} tokens of ${tokens} came`);
  return times;
}

/** Texts of made-up tokens by the schema, each token's mask timed. */
function measureMasks(vocabulary: number): Record<string, number> {
  const tokens = madeUpTokens(vocabulary);
  const startedAt = performance.now();
  const trie = new TokenTrie(tokens);
  const trieMs = performance.now() - startedAt;
  const end = vocabulary;
  const readyAt = performance.now();
  const constraint = { spec: { kind: 'json-schema' as const, schema: SCHEMA }, behind: null };
  const grammar = new TokenGrammar(constraint, trie, vocabulary + 1, [end]);
  const readyMs = performance.now() - readyAt;
  const times: number[] = [];
  const random = generator(7);
  for (let text = 0; text < MASK_TEXTS; text += 1) {
    let state = grammar.start;
    for (let count = 0; count < MASK_TOKENS; count += 1) {
      const from = performance.now();
      const mask = grammar.mask(state);
      times.push((performance.now() - from) * 1000);
      const id = allowedOf(mask, Math.floor(random() * vocabulary));
      const next = id === end ? null : grammar.after(state, id);
      if (next === null) break;
      state = next;
    }
  }
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): number => Number(sorted[Math.floor((sorted.length - 1) * share)]!.toFixed(2));
  const [median, p99, most] = [at(0.5), at(0.99), at(1)];
  console.log(
    `masks of ${vocabulary} tokens: vocabulary ready in ${trieMs.toFixed(0)} ms, schema in ${readyMs.toFixed(1)} ms; of ${times.length} masks median ${median} µs, 99 % ${p99} µs, largest ${most} µs`,
  );
  return { maskMedianUs: median, maskP99Us: p99, maskMaxUs: most };
}

/** All bytes, then pieces of words as byte-pair vocabularies have them: a fourth with a space before, lengths of 2 to 12. */
function madeUpTokens(count: number): Uint8Array[] {
  const random = generator(1);
  const letters = 'etaoinshrdlucmfwypvbgkjqxz0123456789"{}[],:._-';
  const seen = new Set<string>();
  while (seen.size < count - 256) {
    const length = 2 + Math.floor(random() * random() * 11);
    let text = random() < 0.25 ? ' ' : '';
    for (let at = 0; at < length; at += 1) text += letters[Math.floor(random() * random() * letters.length)];
    if (text.length > 1) seen.add(text);
  }
  return [
    ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
    ...[...seen].map((text) => Buffer.from(text)),
  ];
}

/** The first allowed id from here on, around the end. */
function allowedOf(mask: Uint32Array, from: number): number {
  const bits = mask.length * 32;
  for (let step = 0; step < bits; step += 1) {
    const id = (from + step) % bits;
    if ((mask[id >> 5]! & (1 << (id & 31))) !== 0) return id;
  }
  throw new Error('a mask is never empty');
}

/** Between 0 and 1, the same of the same seed. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
