/**
 * Every architecture that transformers knows has a family or is refused in words; none is guessed by its tensors. (What becomes of
 * each is listed in partitioner/ARCHITECTURES.md, which a tidy test compares.)
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { planPartition } from '../../../partitioner/partition.js';
import { architectureOutcomes } from '../../support/architecture-outcomes.js';
import { writeRenamedModel } from '../../support/renamed-model.js';

const scratch = mkdtempSync(path.join(tmpdir(), 'architectures-'));
afterAll(() => rmSync(scratch, { recursive: true }));

describe('an architecture that transformers knows', async () => {
  const outcomes = await architectureOutcomes();

  it('is there, some three hundred times', () => {
    expect(outcomes.length).toBeGreaterThan(300);
    expect(outcomes.filter(({ kind }) => kind === 'family').length).toBeGreaterThan(38);
  });

  it('is never guessed', () => {
    expect(outcomes.filter(({ kind }) => kind === 'automatic')).toEqual([]);
  });

  it('without a family is refused by its name, and what it is that is missing', () => {
    for (const { kind, message, name } of outcomes) {
      if (kind !== 'refused') continue;
      expect(message).toMatch(`${name} is known, and not guessed by its tensors: `);
    }
  });
});

/** Llama's names and shapes: the automatic policy would take them for Llama's. */
describe('a checkpoint with tensors like Llama', () => {
  const plan = (config: Record<string, unknown>, folder: string) =>
    planPartition({
      folder: writeRenamedModel({ golden: 'llama', folder: path.join(scratch, folder), config }),
      tp: 1,
      dtype: 'fp32',
    });

  it('under a name that nobody knows is recognised, with its assumptions', async () => {
    const { report } = await plan({}, 'unheard-of');
    expect(report.kind).toBe('automatic');
    expect(report.assumed.length).toBeGreaterThan(0);
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      'architecture',
      { architectures: ['LongcatFlashForCausalLM'] },
      /LongcatFlashForCausalLM is known.*two attentions/,
    ],
    [
      'architecture of a hybrid',
      { architectures: ['Lfm2ForCausalLM'] },
      /Lfm2ForCausalLM is known.*running state/,
    ],
    ['class of a known model type', { model_type: 'helium' }, /model_type helium is known, but no family/],
  ])('under a known %s is refused', async (name, config, message) => {
    await expect(plan(config, name)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID' });
    await expect(plan(config, name)).rejects.toThrow(message);
  });
});
