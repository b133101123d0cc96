/** partitioner/checkpoint/config-file.ts: typed reads of config.json and generation_config.json. */
import { describe, expect, it } from 'vitest';
import { CheckpointConfig } from '../../../../partitioner/checkpoint/config-file.js';
import { MAX_END_IDS } from '../../../../partitioner/checkpoint/config-section.js';

const config = (raw: Record<string, unknown>, generation: Record<string, unknown> | null = null) =>
  new CheckpointConfig(raw, generation, 'model');

describe('a typed read', () => {
  const filled = config({
    size: 8,
    rate: -0.5,
    tied: true,
    act: 'silu',
    none: null,
    names: ['A'],
    inner: { n: 3 },
  });

  it('gives the value that is there', () => {
    expect(filled.positiveInteger('size', 1)).toBe(8);
    expect(filled.number('rate')).toBe(-0.5);
    expect(filled.boolean('tied')).toBe(true);
    expect(filled.string('act')).toBe('silu');
    expect(filled.strings('names')).toEqual(['A']);
    expect(filled.section('inner')?.positiveInteger('n')).toBe(3);
    expect(filled.nullablePositiveInteger('size')).toBe(8);
    expect(filled.nullableNumber('rate')).toBe(-0.5);
    expect(filled.nullableBoolean('tied')).toBe(true);
    expect(filled.nullableString('act')).toBe('silu');
  });

  it('takes the fallback, or null, for a key that is absent or null', () => {
    for (const key of ['none', 'absent', 'toString']) {
      expect(filled.positiveInteger(key, 5)).toBe(5);
      expect(filled.number(key, 0)).toBe(0);
      expect(filled.boolean(key, false)).toBe(false);
      expect(filled.string(key, '')).toBe('');
      expect(filled.nullablePositiveInteger(key)).toBeNull();
      expect(filled.nullableNumber(key)).toBeNull();
      expect(filled.nullableBoolean(key)).toBeNull();
      expect(filled.nullableString(key)).toBeNull();
      expect(filled.section(key)).toBeNull();
      expect(filled.has(key)).toBe(false);
    }
  });

  it.each<[string, () => unknown, string]>([
    [
      'a missing key',
      () => filled.positiveInteger('hidden_size'),
      'hidden_size is missing, expected a positive integer',
    ],
    ['a null', () => filled.string('none'), 'none is missing, expected a string'],
    ['zero', () => config({ n: 0 }).positiveInteger('n'), 'n is 0, expected a positive integer'],
    ['a fraction', () => config({ n: 1.5 }).positiveInteger('n'), 'n is 1.5, expected a positive integer'],
    ['2^53', () => config({ n: 2 ** 53 }).positiveInteger('n'), 'n is 9007199254740992, expected a positive'],
    [
      'a number as text',
      () => config({ n: '8' }).positiveInteger('n', 8),
      'n is "8", expected a positive integer',
    ],
    [
      'infinity',
      () => config({ n: Number.POSITIVE_INFINITY }).number('n'),
      'n is null, expected a finite number',
    ],
    [
      'a zero that must be above',
      () => config({ n: 0 }).positiveNumber('n'),
      'n is 0, expected a number above 0',
    ],
    ['1 for true', () => config({ n: 1 }).boolean('n'), 'n is 1, expected true or false'],
    ['a list for a string', () => config({ n: ['a'] }).string('n'), 'n is ["a"], expected a string'],
    [
      'a number in a list',
      () => config({ n: ['a', 1] }).strings('n'),
      'n is ["a",1], expected a list of strings',
    ],
    ['a list for an object', () => config({ n: [] }).section('n'), 'n is [], expected an object'],
    ['a key below', () => filled.section('inner')?.string('n'), 'inner: n is 3, expected a string'],
  ])('of %s fails with file, key, value and what was expected', (_what, read, message) => {
    expect(read).toThrow(
      expect.objectContaining({
        code: 'CHECKPOINT_INVALID',
        message: expect.stringContaining(`model/config.json: ${message}`),
      }),
    );
  });

  it('lets a family refuse a value in the same words', () => {
    expect(filled.wrong('act', 'gelu')).toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: 'model/config.json: act is "silu", expected gelu',
    });
  });

  it('cuts a long value in its message', () => {
    expect(() => config({ n: 'x'.repeat(1000) }).number('n')).toThrow(/^.{1,140}$/);
  });
});

describe('end ids', () => {
  it.each([
    [{ eos_token_id: 2 }, null, [2]],
    [{ eos_token_id: [2, 3] }, null, [2, 3]],
    [{ eos_token_id: 2 }, { eos_token_id: [7, 8, 7] }, [7, 8]],
    [{ eos_token_id: 2 }, { eos_token_id: null }, [2]],
    [{ eos_token_id: 2 }, { temperature: 1 }, [2]],
    [{ eos_token_id: 0 }, null, [0]],
    [{}, null, []],
  ])('of %j and %j are %j', (raw, generation, expected) => {
    expect(config(raw, generation).endIds()).toEqual(expected);
  });

  it('are refused when they are no ids, naming the file they stand in', () => {
    expect(() => config({}, { eos_token_id: [1, -1] }).endIds()).toThrow(
      'model/generation_config.json: eos_token_id is [1,-1], expected a token id or a list',
    );
    expect(() => config({ eos_token_id: '</s>' }).endIds()).toThrow(
      'model/config.json: eos_token_id is "</s>"',
    );
    expect(() =>
      config({ eos_token_id: Array.from({ length: MAX_END_IDS + 1 }, (_, id) => id) }).endIds(),
    ).toThrow(`at most ${MAX_END_IDS}`);
  });

  it('have a begin id beside them, from config.json first', () => {
    expect(config({ bos_token_id: 1 }, { bos_token_id: 9 }).beginId()).toBe(1);
    expect(config({}, { bos_token_id: 9 }).beginId()).toBe(9);
    expect(config({ bos_token_id: null }).beginId()).toBeNull();
  });
});

describe('generation defaults', () => {
  it('are the keys that decide how a token is chosen', () => {
    const generation = {
      do_sample: true,
      temperature: 0.6,
      top_k: 50,
      eos_token_id: 2,
      transformers_version: '5',
      top_p: null,
    };
    expect(config({}, generation).generationDefaults()).toEqual({
      do_sample: true,
      temperature: 0.6,
      top_k: 50,
    });
    expect(config({}).generationDefaults()).toEqual({});
  });

  it.each<[string, unknown, string]>([
    ['temperature', -0.1, 'a number of at least 0'],
    ['top_k', -2, 'a whole number of at least -1'],
    ['top_k', 1.5, 'a whole number'],
    ['top_p', 0, 'a number above 0 and at most 1'],
    ['top_p', 1.1, 'a number above 0 and at most 1'],
    ['min_p', 2, 'a number of 0 to 1'],
    ['typical_p', 0, 'a number above 0'],
    ['repetition_penalty', 0, 'a number above 0'],
    ['presence_penalty', 3, 'a number of -2 to 2'],
    ['frequency_penalty', -3, 'a number of -2 to 2'],
    ['min_new_tokens', -1, 'a whole number of at least 0'],
    ['max_new_tokens', 0, 'a whole number of at least 1'],
    ['do_sample', 1, 'true or false'],
  ])('are refused when no sampler can have them: %s %s', (key, value, expected) => {
    expect(() => config({}, { [key]: value }).generationDefaults()).toThrow(
      `model/generation_config.json: ${key} is ${JSON.stringify(value)}, expected ${expected}`,
    );
  });

  it('may be off', () => {
    const off = { temperature: 0, top_k: -1, top_p: 1, min_p: 0, repetition_penalty: 1, min_new_tokens: 0 };
    expect(config({}, off).generationDefaults()).toEqual(off);
  });

  it('are refused when they are of a wrong type', () => {
    expect(() => config({}, { temperature: 'hot' }).generationDefaults()).toThrow(
      'model/generation_config.json: temperature is "hot", expected a finite number',
    );
  });
});

describe('rotary parameters', () => {
  const plain = {
    theta: 10_000,
    type: 'default',
    factor: 1,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositions: 512,
    partialRotaryFactor: 1,
  };
  const base = { max_position_embeddings: 512 };
  const llama3 = {
    factor: 8,
    low_freq_factor: 2,
    high_freq_factor: 5,
    original_max_position_embeddings: 128,
  };
  const scaled = {
    factor: 8,
    lowFreqFactor: 2,
    highFreqFactor: 5,
    originalMaxPositions: 128,
    type: 'llama3',
  };

  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ['nothing', {}, {}],
    ['classic, no scaling', { rope_theta: 500_000, rope_scaling: null }, { theta: 500_000 }],
    [
      'classic linear, old key',
      { rope_scaling: { type: 'linear', factor: 2 } },
      { type: 'linear', factor: 2 },
    ],
    [
      'classic llama3',
      { rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3 } },
      { ...scaled, theta: 5e5 },
    ],
    [
      'transformers 5 llama3',
      { rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 } },
      { ...scaled, theta: 5e5 },
    ],
    [
      'transformers 5 default',
      { rope_parameters: { rope_type: 'default', rope_theta: 1e6 } },
      { theta: 1e6 },
    ],
    [
      'both: the newer wins, and takes what it lacks from outside',
      {
        rope_theta: 7,
        rope_parameters: { rope_type: 'linear', factor: 4 },
        rope_scaling: { type: 'linear', factor: 2 },
      },
      { type: 'linear', factor: 4, theta: 7 },
    ],
    [
      'a type that is not known here',
      { rope_scaling: { rope_type: 'yarn', factor: 4 } },
      { type: 'yarn', factor: 4 },
    ],
    ['a part of the head', { partial_rotary_factor: 0.5 }, { partialRotaryFactor: 0.5 }],
  ])('are read from: %s', (_what, raw, expected) => {
    expect(config({ ...base, ...raw }).ropeParameters()).toEqual({ ...plain, ...expected });
  });

  it.each<[Record<string, unknown>, string]>([
    [{ rope_scaling: { type: 'linear' } }, 'rope_scaling: factor is missing, expected a finite number'],
    [{ rope_scaling: { type: 'linear', factor: 0 } }, 'rope_scaling: factor is 0, expected a number above 0'],
    [{ rope_scaling: 'linear' }, 'rope_scaling is "linear", expected an object'],
    [{ rope_theta: -1 }, 'rope_theta is -1, expected a number above 0'],
    [
      { rope_parameters: { ...llama3, rope_type: 'llama3', low_freq_factor: null } },
      'low_freq_factor is missing',
    ],
    [
      { rope_parameters: { ...llama3, rope_type: 'llama3', high_freq_factor: 1 } },
      'high_freq_factor is 1, expected at least low_freq_factor (2)',
    ],
    [
      { rope_scaling: { ...llama3, rope_type: 'llama3', original_max_position_embeddings: null } },
      'rope_scaling: original_max_position_embeddings is missing',
    ],
    [{ partial_rotary_factor: 1.5 }, 'partial_rotary_factor is 1.5, expected at most 1'],
    [{ rope_parameters: { full_attention: {}, sliding_attention: {} } }, 'expected one set for all layers'],
  ])('%j are refused', (raw, message) => {
    expect(() => config({ ...base, ...raw }).ropeParameters()).toThrow(
      expect.objectContaining({ code: 'CHECKPOINT_INVALID', message: expect.stringContaining(message) }),
    );
  });
});
