/**
 * The split is real: worker processes at tp 2 and 4, each with its own file, meeting in as many all-reduces as the manifest
 * says, stopping when one of them stops.
 */
import { cpSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { partition } from '../../partitioner/partition.js';
import { GREEDY_SAMPLING, type StepResult } from '../../proto/control.js';
import { allReducesPerStep, type Manifest } from '../../proto/manifest.js';
import { Coordinator } from '../../server/coordinator/coordinator.js';
import { LocalLauncher } from '../../server/machine/ranks/local-launcher.js';
import { type Golden, readGolden } from '../support/golden.js';
import { repositoryRoot } from '../support/repository-root.js';

const launcher = new LocalLauncher(fileURLToPath(new URL('../../shard-worker/main.js', import.meta.url)));

function startGroup(shardFolder: string, manifest: Manifest, verifyChecksums = true): Promise<Coordinator> {
  return Coordinator.start({
    launch: {
      shardFolder,
      worldSize: manifest.worldSize,
      threads: 1,
      maxSlots: 2,
      slotTokens: manifest.model.contextLength,
      maxStepTokens: 256,
      collectiveTimeoutMs: 60_000,
      collective: 'zmq',
      verifyChecksums,
    },
    launcher,
    loadingTimeoutMs: 60_000,
    stepTimeoutMs: 60_000,
    logger: pino({ level: 'silent' }),
  });
}

/** Prompt in one step, then `count` − 1 decodes. */
async function generate(
  group: Coordinator,
  promptIds: number[],
  count: number,
): Promise<{ ids: number[]; logprobs: number[] }> {
  const sampling = { ...GREEDY_SAMPLING, logprob: true };
  const open = { slot: 0, sequence: 1, promptIds, maxNewTokens: count, endIds: [], sampling };
  const results: StepResult[] = [];
  for (let index = 0; index < count; index++) {
    const tokens = index === 0 ? promptIds.length : 1;
    const rows = [{ slot: 0, sequence: 1, tokens }];
    results.push(await group.step({ closeSlots: [], opens: index === 0 ? [open] : [], rows }));
  }
  await group.step({ closeSlots: [0], opens: [], rows: [] });
  return {
    ids: results.map((result) => result.rows[0]?.tokens[0]?.tokenId ?? -1),
    logprobs: results.map((result) => result.rows[0]?.tokens[0]?.logprob ?? Number.NaN),
  };
}

/** Weight files of the shard folder that a process has mapped. */
function mappedWeights(pid: number, shardFolder: string): string[] {
  const lines = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
  const files = lines.flatMap((line) => {
    const at = line.indexOf(shardFolder);
    return at < 0 ? [] : [path.basename(line.slice(at))];
  });
  return [...new Set(files)].sort();
}

describe.each([2, 4])('tp %i', (tp) => {
  let store: string;
  let shardFolder: string;
  let manifest: Manifest;
  let golden: Golden;
  let group: Coordinator | null = null;

  beforeAll(async () => {
    golden = readGolden('embedded');
    store = mkdtempSync(path.join(tmpdir(), 'split-'));
    const folder = path.join(repositoryRoot, 'models', 'embedded');
    ({ shardFolder, manifest } = await partition({ folder, outStore: store, tp, dtype: 'fp32' }));
  });
  afterEach(async () => {
    await group?.stop();
    group = null;
  });
  afterAll(() => rmSync(store, { recursive: true }));

  const prompt = () => golden.prompts[0] ?? expect.fail('a prompt');

  it('gives the golden tokens, and every rank takes part in every all-reduce', async () => {
    group = await startGroup(shardFolder, manifest);
    const before = await group.inspect();
    const { ids } = await generate(group, prompt().ids, 64);
    expect(ids).toEqual(prompt().greedyIds);
    const after = await group.inspect();
    const rises = after.map((rank, index) => rank.allReduces - (before[index]?.allReduces ?? 0));
    expect(allReducesPerStep(manifest.program)).toBe(2 * manifest.model.numLayers);
    expect(rises).toEqual(new Array(tp).fill(64 * allReducesPerStep(manifest.program)));
  });

  it('maps in each rank its own file and the shared one, and no other', async () => {
    group = await startGroup(shardFolder, manifest);
    group.pids.forEach((pid, rank) => {
      const allowed = [`rank-${rank}.weights`, 'shared.weights'];
      const mapped = mappedWeights(pid ?? 0, shardFolder);
      expect(mapped).toContain('shared.weights');
      expect(mapped.filter((file) => !allowed.includes(file))).toEqual([]);
    });
  });

  it('makes no token while one rank is stopped, and goes on with it', async () => {
    group = await startGroup(shardFolder, manifest);
    const stopped = group.pids[tp - 1] ?? expect.fail('a pid');
    process.kill(stopped, 'SIGSTOP');
    try {
      const generated = generate(group, prompt().ids, 8);
      // Rank 0 alone answers an inspection that waits behind the step only when the step is through: nothing may come.
      // The other ranks are alive, so a full second is ample for eight tokens of a model this small.
      const first = await Promise.race([
        generated,
        new Promise((resolve) => setTimeout(resolve, 1000, 'none')),
      ]);
      expect(first).toBe('none');
      process.kill(stopped, 'SIGCONT');
      expect((await generated).ids).toEqual(prompt().greedyIds.slice(0, 8));
    } finally {
      process.kill(stopped, 'SIGCONT');
    }
  });

  it('finds a changed byte of rank 1 at load, and computes something else with the checks off', async () => {
    const damaged = path.join(store, 'damaged');
    cpSync(shardFolder, damaged, { recursive: true });
    const file = path.join(damaged, 'rank-1.weights');
    // A high bit of the mantissa of a weight in the middle of the largest tensor: wrong by up to half, but still a number.
    const tensor = manifest.tensors
      .filter((entry) => entry.file === 'rank')
      .reduce((largest, entry) => (entry.bytes > largest.bytes ? entry : largest));
    const offset = tensor.offset + Math.floor(tensor.bytes / 8) * 4 + 2;
    const handle = openSync(file, 'r+');
    const byte = Buffer.alloc(1);
    readSync(handle, byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ 0x60;
    writeSync(handle, byte, 0, 1, offset);

    await expect(startGroup(damaged, manifest)).rejects.toMatchObject({ code: 'SHARDS_INVALID' });

    group = await startGroup(shardFolder, manifest);
    const sound = await generate(group, prompt().ids, 8);
    await group.stop();
    group = await startGroup(damaged, manifest, false);
    const changed = await generate(group, prompt().ids, 8);
    expect(changed.logprobs).not.toEqual(sound.logprobs);
  });
});
