/**
 * injection_policy.json: goldens whose architecture and tensor names nobody knows give the golden's logits and tokens by it; a
 * policy that is wrong, or does not say enough, is refused by name.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partition, planPartition } from '../../../partitioner/partition.js';
import { verifyShards } from '../../../partitioner/verify/verify.js';
import { INJECTION_POLICIES, renamed } from '../../fixtures/injection-policies.js';
import { drawn } from '../../fixtures/seeded-random.js';
import { runGolden } from '../../support/golden-run.js';
import { type RenamedModel, writeRenamedModel } from '../../support/renamed-model.js';
import { repositoryRoot } from '../../support/repository-root.js';

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'policy-injection-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

type Policy = Record<string, unknown>;

let folders = 0;

/** The golden under other names, with its policy. @param change of the policy */
function modelWith(
  golden: string,
  change: (policy: Policy) => unknown,
  more: Partial<RenamedModel> = {},
): string {
  const folder = path.join(scratch, `model-${++folders}`);
  writeRenamedModel({ golden, folder, rename: renamed, ...more });
  const policy = structuredClone(INJECTION_POLICIES[golden]!);
  const changed = change(policy);
  const text = typeof changed === 'string' ? changed : JSON.stringify(policy);
  writeFileSync(path.join(folder, 'injection_policy.json'), text);
  return folder;
}

describe('gives the golden', () => {
  // Half of them a run; all in test:long.
  it.each(drawn(Object.keys(INJECTION_POLICIES), 2))('%s at tp 1, 2 and 4', async (golden) => {
    const modelFolder = modelWith(golden, () => undefined);
    const store = path.join(scratch, 'store');
    for (const tp of [1, 2, 4]) {
      const { deviation, tokensEqual } = await runGolden({ name: golden, modelFolder, store, tp });
      expect([tp, tokensEqual, deviation < 1e-5]).toEqual([tp, true, true]);
    }
    const options = { folder: modelFolder, outStore: store, tp: 2, dtype: 'fp32' as const };
    const { shardFolder } = await partition(options);
    expect((await verifyShards({ ...options, shardFolder })).tensors).toBeGreaterThan(0);
  });
});

describe('refused', () => {
  const merge = (field: string, value: object) => (policy: Policy) =>
    Object.assign(policy, { [field]: { ...(policy[field] as object), ...value } });

  it.each<[string, (policy: Policy) => unknown, string]>([
    ['no JSON', () => '{', 'not JSON'],
    [
      'a field that is none',
      (policy) => Object.assign(policy, { rowparallel: 1 }),
      'rowparallel is no field',
    ],
    ['a field that is none inside', merge('block', { gated: true }), 'block.gated is no field'],
    [
      'a missing field',
      (policy) => delete policy.embedding,
      'embedding is missing, expected the name of a tensor',
    ],
    [
      'another kind of norm',
      merge('block', { norm: 'batch' }),
      'block.norm is "batch", expected one of rms, layer',
    ],
    ['a name that goes elsewhere', merge('row_parallel', { down: '../x' }), 'row_parallel.down is "../x"'],
    [
      'a prefix without {layer}',
      (policy) => Object.assign(policy, { layers: 'net.layers' }),
      'ends in {layer}',
    ],
    [
      'half a query, key, value',
      (policy) => delete (policy.column_parallel as Policy).key,
      'either query, key and value',
    ],
    [
      'both kinds of query, key, value',
      merge('column_parallel', { query_key_value: { name: 'x', layout: 'by_part' } }),
      'either query, key and value',
    ],
    ['no up', (policy) => delete (policy.column_parallel as Policy).up, 'either up'],
    ['a norm of queries alone', merge('norms', { query: 'q' }), 'need each other'],
    [
      'learned positions without a table',
      merge('block', { positions: 'learned' }),
      'positions names the table',
    ],
    [
      'two stars in a pattern',
      (policy) => Object.assign(policy, { ignored_tensors: ['*a*'] }),
      'ignored_tensors.0',
    ],
    ['a scale of 0', merge('block', { logit_scale: 0 }), 'block.logit_scale is 0, expected a number above 0'],
    [
      'a value that config.json contradicts',
      (policy) => Object.assign(policy, { config: { hidden_size: 64 } }),
      'hidden_size is 128, expected 64',
    ],
    [
      'a tensor that is not there',
      merge('row_parallel', { down: 'mlp.down' }),
      'net.layers.0.mlp.down.weight is missing',
    ],
    [
      'a plain MLP where there is a gate',
      (policy) => delete (policy.column_parallel as Policy).gate,
      'gate_proj.weight has no place',
    ],
    [
      'biases that are not there',
      merge('block', { biases: { query_key_value: true, attention_out: false, mlp: false, head: false } }),
      'q_proj.bias is missing',
    ],
  ])('%s', async (_, change, reason) => {
    const folder = modelWith('llama', change);
    const run = partition({ folder, outStore: path.join(scratch, 'store'), tp: 1, dtype: 'fp32' });
    await expect(run).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(run).rejects.toThrow(reason);
  });

  it.each<[string, string, string]>([
    ['granite', 'embedding_multiplier', 'embedding_multiplier is 2.5'],
    ['gemma2', 'final_logit_softcapping', 'final_logit_softcapping is 8'],
    ['gptj', 'rotary_dim', 'rotary_dim is 4'],
  ])('%s whose policy says nothing of %s', async (golden, key, reason) => {
    const folder = modelWith(golden, (policy) => {
      policy.covered_config_keys = (policy.covered_config_keys as string[]).filter(
        (covered) => covered !== key,
      );
    });
    await expect(planPartition({ folder, tp: 1 })).rejects.toThrow(reason);
  });

  it('a tensor more, unless the policy ignores it', async () => {
    const extra = { 'net.layers.0.extra.weight': [4] };
    const store = path.join(scratch, 'store');
    const refused = modelWith('llama', () => undefined, { extra });
    const options = { outStore: store, tp: 1, dtype: 'fp32' as const };
    await expect(partition({ ...options, folder: refused })).rejects.toThrow(
      'net.layers.0.extra.weight has no place',
    );
    const ignoring = modelWith(
      'llama',
      (policy) => Object.assign(policy, { ignored_tensors: ['*.extra.weight'] }),
      { extra },
    );
    expect((await partition({ ...options, folder: ignoring })).reused).toBe(false);
  });
});

it('another policy means other shards, even over the same files', async () => {
  const folder = modelWith('llama', () => undefined);
  const options = { folder, outStore: path.join(scratch, 'store'), tp: 1, dtype: 'fp32' as const };
  const first = await partition(options);
  const policy = structuredClone(INJECTION_POLICIES.llama!);
  policy.block = { ...(policy.block as object), logit_scale: 2 };
  writeFileSync(path.join(folder, 'injection_policy.json'), JSON.stringify(policy));
  const second = await partition(options);
  expect([second.reused, second.shardFolder === first.shardFolder]).toEqual([false, false]);
});

it('the policy of the README is one that works', () => {
  const readme = readFileSync(path.join(repositoryRoot, 'partitioner', 'policies', 'README.md'), 'utf8');
  const [, example = ''] = /```json\n([\s\S]*?)```/.exec(readme) ?? [];
  expect(JSON.parse(example)).toEqual(INJECTION_POLICIES.gemma2);
});
