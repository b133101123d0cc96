/**
 * Constrained answers by the real ranks behind the batch loop, masks from the real process: every answer is valid, whatever the model would
 * rather say, greedy and sampled, at degrees 1 and 2, beside free ones, and when KV memory makes it be computed again.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partition } from '../../../partitioner/partition.js';
import {
  decodeToWorker,
  encodeToWorker,
  GREEDY_SAMPLING,
  type LateMask,
  type Sampling,
} from '../../../proto/control.js';
import { BatchLoop } from '../../../server/batching/batch-loop.js';
import type { SteppedGroup } from '../../../server/batching/batch-loop-options.js';
import { ChunkBudget } from '../../../server/batching/chunk-budget.js';
import { ContinuousBatcher } from '../../../server/batching/continuous-batcher.js';
import { KV_PAGE_TOKENS, SlotTable } from '../../../server/batching/slot-table.js';
import { Constrainer } from '../../../server/engines/llm/constrainer.js';
import { TokenizerProcess } from '../../../server/engines/llm/tokenizer-process.js';
import { systemClock } from '../../../server/jobs/clock.js';
import type { GenerationJob } from '../../../server/jobs/generation-job.js';
import { JobQueue } from '../../../server/jobs/job-queue.js';
import type { ConstraintSpec } from '../../../server/requests/answer-constraint.js';
import { FAR_TOKENS } from '../../../server/text/constraint/machine.js';
import { TokenGrammar } from '../../../server/text/constraint/token-masks.js';
import { TokenTrie } from '../../../server/text/constraint/token-trie.js';
import { Detokenizer } from '../../../server/text/detokenizer.js';
import { makeJob, readAll, tokenIdsOf } from '../../fixtures/generate-requests.js';
import { seededRandom } from '../../fixtures/seeded-random.js';
import { createInProcessGroup } from '../../support/in-process-group.js';
import { repositoryRoot } from '../../support/repository-root.js';

const SLOT_TOKENS = 256;
const NEW_TOKENS = 190;
const folder = path.join(repositoryRoot, 'models', 'embedded');

const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 12 },
    age: { type: 'integer', minimum: 0, maximum: 150 },
    kind: { enum: ['cat', 'dog'] },
    tags: { type: 'array', items: { type: 'boolean' }, minItems: 1, maxItems: 3 },
  },
  required: ['name', 'age', 'kind', 'tags'],
  additionalProperties: false,
};
/** Long enough to grow by pages. */
const WORDS: ConstraintSpec = { kind: 'regex', pattern: '[A-Z][a-z]{2,8}( [a-z]{3,9}){75}\\.' };
const SPECS: readonly ConstraintSpec[] = [
  { kind: 'json-schema', schema: PERSON },
  { kind: 'choice', texts: ['once upon a time', 'never', 'no'] },
  ...[WORDS, WORDS],
  { kind: 'grammar', source: 'root ::= "(" (item ","){1,3} ")"\nitem ::= [0-9]{2} | "yes"' },
];
const isValid = ({ kind }: ConstraintSpec, text: string): boolean => {
  switch (kind) {
    case 'json-schema':
      return new Ajv2020().validate(PERSON, JSON.parse(text));
    case 'choice':
      return ['once upon a time', 'never', 'no'].includes(text);
    case 'regex':
      return /^[A-Z][a-z]{2,8}( [a-z]{3,9}){75}\.$/.test(text);
    default:
      return /^\(((\d\d|yes),){1,3}\)$/.test(text);
  }
};

let store: string;
let tokenizer: TokenizerProcess;
let constrainer: Constrainer;
let texts: Detokenizer;
let endId: number;
let vocabSize: number;
beforeAll(async () => {
  store = mkdtempSync(path.join(tmpdir(), 'constrained-'));
  tokenizer = await TokenizerProcess.start(folder);
  texts = new Detokenizer(tokenizer.facts.table);
  endId = texts.idOf('<|endoftext|>') ?? texts.idOf('</s>')!;
  vocabSize = texts.vocabSize;
  constrainer = new Constrainer({ table: tokenizer.facts.table, vocabSize, endIds: [endId] });
});
afterAll(async () => {
  await Promise.all([tokenizer.close(), constrainer.close()]);
  rmSync(store, { recursive: true });
});

const SAMPLED: Sampling = { ...GREEDY_SAMPLING, greedy: false, temperature: 1.5, topP: 0.98, logprob: true };

/** A constrained answer of each form, greedy and sampled, and a free one beside them. */
async function makeJobs(): Promise<GenerationJob[]> {
  const common = { maxNewTokens: NEW_TOKENS, queuedAtMs: systemClock.nowMs() };
  const jobs: GenerationJob[] = [];
  for (const [index, spec] of SPECS.entries()) {
    for (const sampling of [GREEDY_SAMPLING, { ...SAMPLED, seedLow: 7 + index }]) {
      const constraint = await constrainer.open({ spec, behind: null }, new AbortController().signal);
      const promptIds = Array.from(
        { length: KV_PAGE_TOKENS - 4 },
        (_, at) => 5 + ((index * 31 + at * 7) % 900),
      );
      jobs.push(makeJob({ ...common, promptIds, sampling, endIds: [endId], constraint }));
    }
  }
  const promptIds = [5, 6, 7, 8];
  return [
    ...jobs,
    makeJob({ ...common, promptIds, sampling: GREEDY_SAMPLING, endIds: [], maxNewTokens: 60 }),
  ];
}

/** @param masksFollow behind their steps, so that constrained answers run ahead */
async function write(shardFolder: string, kvTokens: number, masksFollow: boolean) {
  const jobs = await makeJobs();
  const group = await createInProcessGroup(shardFolder, { maxSlots: jobs.length, slotTokens: SLOT_TOKENS });
  let last = 0;
  let before: Promise<unknown> = Promise.resolve();
  const late: LateMask[] = [];
  const stepped: SteppedGroup = {
    failed: new Promise(() => {}),
    ...(masksFollow && {
      tellMasks(masks) {
        const sent = decodeToWorker(encodeToWorker({ body: 'masks', masks: { masks } }));
        const told = sent.body === 'masks' ? sent.masks.masks : never();
        late.push(...told);
        group.tellMasks(told);
      },
    }),
    step(plan) {
      // As a worker reads it.
      const sent = decodeToWorker(encodeToWorker({ body: 'step', step: { ...plan, step: ++last } }));
      const result = before.then(
        async () => (await group.step(sent.body === 'step' ? sent.step : never()))[0]!,
      );
      before = result.catch(() => {});
      return result;
    },
  };
  const queue = new JobQueue<GenerationJob>('embedded', jobs.length, 600_000);
  let preempted = 0;
  const loop = new BatchLoop({
    group: stepped,
    queue,
    batcher: new ContinuousBatcher(),
    slots: new SlotTable(jobs.length, kvTokens, 0),
    chunkBudget: new ChunkBudget({ gapMs: 500, scheduling: 'balanced', maxTokens: 256 }),
    texts,
    clock: systemClock,
    onSlotFreed: ({ why }) => {
      if (why === 'preempted') preempted++;
    },
  });
  const running = loop.run();
  for (const job of jobs) queue.push(job);
  const read = await Promise.all(jobs.map((job) => readAll(job.stream)));
  loop.stop();
  await running;
  expect(read.map(({ error }) => error)).toEqual(jobs.map(() => null));
  return { answers: read.map(({ events }) => texts.decode(tokenIdsOf(events))), preempted, late };
}

function never(): never {
  throw new Error('a step is a step');
}

it('every answer is valid, the same at each degree, when it was preempted and when masks follow their steps', {
  timeout: 240_000,
}, async () => {
  const runs = [];
  for (const tp of [1, 2]) {
    const { shardFolder } = await partition({ folder, outStore: store, tp, dtype: 'fp32' });
    const run = await write(shardFolder, tp === 1 ? 11 * SLOT_TOKENS : 7 * KV_PAGE_TOKENS, tp > 1);
    expect(run.preempted > 0).toBe(tp > 1);
    expect(run.late.length > 0).toBe(tp > 1);
    runs.push(run);
  }
  const { answers } = runs[0]!;
  for (const [index, answer] of answers.slice(0, -1).entries()) {
    expect(isValid(SPECS[index >> 1]!, answer), answer).toBe(true);
  }
  for (const run of runs) expect(run.answers).toEqual(answers);
});

it('allowed ids and bad words hold at both degrees', async () => {
  const runs = [];
  for (const tp of [1, 2]) {
    const { shardFolder } = await partition({ folder, outStore: store, tp, dtype: 'fp32' });
    const group = await createInProcessGroup(shardFolder, { maxSlots: 2, slotTokens: SLOT_TOKENS });
    const write = async (slot: number, more: Partial<Sampling>): Promise<number[]> => {
      const ids: number[] = [];
      const open = { slot, sequence: ++sequences, promptIds: [9, 8, 7], maxNewTokens: 12, endIds: [] };
      const opens = [{ ...open, sampling: { ...GREEDY_SAMPLING, ...more } }];
      for (let round = 0; round < 12; round++) {
        const rows = [{ slot, sequence: open.sequence, tokens: round === 0 ? 3 : 1 }];
        const step = { step: ++steps, closeSlots: [], opens: round === 0 ? opens : [], rows };
        ids.push((await group.step(step))[0]!.rows[0]!.tokens[0]!.tokenId);
      }
      await group.step({ step: ++steps, closeSlots: [slot], opens: [], rows: [] });
      return ids;
    };
    let steps = 0;
    let sequences = 0;
    const free = await write(0, {});
    const listed = await write(0, { allowedIds: [100, 200, 300, vocabSize - 1] });
    expect(listed.every((id) => [100, 200, 300, vocabSize - 1].includes(id))).toBe(true);
    const [first, second] = free as [number, number];
    const without = await write(1, { badWords: [{ ids: [first, second] }] });
    expect(without[0]).toBe(first);
    expect(without[1]).not.toBe(second);
    const neither = await write(1, { badWords: [{ ids: [first] }, { ids: [0, 0, 0, 0] }] });
    expect(neither).not.toContain(first);
    runs.push({ free, listed, without, neither });
  }
  expect(runs[1]).toEqual(runs[0]);
});

it('a grammar that cannot be is refused, and costs nobody else anything', async () => {
  const { signal } = new AbortController();
  const open = (spec: ConstraintSpec) => constrainer.open({ spec, behind: null }, signal);
  const good = await open(SPECS[0]!);
  await expect(open({ kind: 'json-schema', schema: { not: {} } })).rejects.toMatchObject({
    code: 'BAD_REQUEST',
    message: 'The JSON schema for the answer is not supported: $.not: is not supported',
  });
  // Some 2^40 ways to read a text: it runs into its own limit.
  await expect(open({ kind: 'regex', pattern: `${'(a|a?)'.repeat(2000)}b` })).rejects.toMatchObject({
    code: 'BAD_REQUEST',
  });
  const id = good.first.ids.find((one) => texts.tokenText(one) === '{')!;
  const again = await good.maskAfter([id]);
  expect(again.ids.length + again.bits.length).toBeGreaterThan(0);
  good.release();
});

it('masks of texts that are followed without the process are the grammar’s own, and where texts have been it is asked no more', async () => {
  const trie = new TokenTrie(Array.from({ length: vocabSize }, (_, id) => texts.tokenBytes(id)));
  const schema = {
    type: 'array',
    items: { type: 'object', properties: { a: { type: 'string', maxLength: 700 }, b: { type: 'boolean' } } },
    minItems: 400,
  };
  const specs: readonly ConstraintSpec[] = [...SPECS.slice(0, 3), { kind: 'json-schema', schema }];
  const random = seededRandom(5);
  let asked = 0;
  for (const spec of specs) {
    const constraint = { spec, behind: null };
    const grammar = new TokenGrammar(constraint, trie, vocabSize, [endId]);
    const write = async (given: readonly number[] | null): Promise<number[]> => {
      const text = await constrainer.open(constraint, new AbortController().signal);
      const ids: number[] = [];
      asked = 0;
      let mask = text.first;
      for (let state = grammar.start; ids.length < 120; ) {
        const own = allowedIds(grammar.mask(state));
        expect(
          mask.bits.length > 0 ? allowedIds(new Uint32Array(Uint8Array.from(mask.bits).buffer)) : mask.ids,
        ).toEqual(own);
        const id = given?.[ids.length] ?? random.pick(own);
        if (id === endId) break;
        ids.push(id);
        state = grammar.after(state, id)!;
        const next = text.maskAfter(ids);
        if (next instanceof Promise) asked++;
        mask = await next;
      }
      text.release();
      return ids;
    };
    const first = await write(null);
    for (let text = 0; text < 3; text++) await write(null);
    await write(first);
    // Where counts are larger than can be told apart for a while, the process says each few tokens where the text is.
    expect(asked).toBeLessThanOrEqual(Math.floor(first.length / FAR_TOKENS));
  }
}, 60_000);

const allowedIds = (words: Uint32Array): number[] =>
  [...words].flatMap((word, at) =>
    [...Array(32).keys()].flatMap((bit) => ((word >>> bit) & 1 ? [at * 32 + bit] : [])),
  );

it('a text that has begun waits behind one form at most, whatever others ask for, and who has left asks for none', async () => {
  const spec: ConstraintSpec = { kind: 'choice', texts: ['once upon a time', 'never'] };
  const text = await constrainer.open({ spec, behind: null }, new AbortController().signal);
  const settled: string[] = [];
  // Read in thousands of ways at one place: found out late, and refused.
  const pattern = (index: number) => `${'(.*a)?'.repeat(300)}${index}`;
  const forms = [1, 2, 3].map((index) =>
    constrainer
      .open({ spec: { kind: 'regex', pattern: pattern(index) }, behind: null }, new AbortController().signal)
      .catch(() => settled.push(`form ${index}`)),
  );
  const left = constrainer.open({ spec, behind: null }, AbortSignal.abort());
  const mask = Promise.resolve(text.maskAfter([text.first.ids[0]!])).then(() => settled.push('mask'));
  await expect(left).rejects.toMatchObject({ code: 'CANCELLED' });
  await Promise.all([...forms, mask]);
  expect(settled).toHaveLength(4);
  expect(settled.indexOf('mask')).toBeLessThan(2);
  text.release();
});
