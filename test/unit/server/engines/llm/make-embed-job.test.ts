/** A text to embed → a job: its length, and the length of its vector. */
import { describe, expect, it } from 'vitest';
import { GREEDY_SAMPLING, type RowResult } from '../../../../../proto/control.js';
import type { ModelInfo } from '../../../../../proto/manifest.js';
import { TextVector } from '../../../../../server/batching/text-vector.js';
import { makeJob } from '../../../../../server/engines/llm/make-job.js';
import type { EmbedRequest } from '../../../../../server/requests/embed-request.js';

const REQUEST: EmbedRequest = {
  ...{ kind: 'embed', requestId: 'r', model: 'toy', version: null, prompt: { kind: 'text', text: '' } },
  ...{ truncate: null, truncateDefault: false, maxTokens: null, dimensions: null },
};

function jobOf(
  tokens: number,
  dimensions: number | null,
  shorterDimensions?: number[],
  normalised = true,
  normalise = false,
) {
  const embedding = {
    ...{ dimensions: 4, textTokens: 8, normalised, lowerCase: false, prefix: '' },
    ...(shorterDimensions && { shorterDimensions }),
  };
  return makeJob({
    id: 1,
    request: { ...REQUEST, dimensions },
    promptIds: new Array<number>(tokens).fill(5),
    info: { embedding, vocabSize: 10, endIds: [3], generationDefaults: {} } as unknown as ModelInfo,
    limits: { slotTokens: 8, kvTokens: 64 },
    normalise,
    receivedAtMs: 0,
    queuedAtMs: 0,
  });
}

const row = (vector: number[]): RowResult => ({
  ...{ slot: 0, sequence: 1, skipped: false, tokens: [], finish: 2, vector },
});

async function vectorOf(job: ReturnType<typeof jobOf>): Promise<readonly number[]> {
  const running = new TextVector(job, 0, 1);
  expect(running.open()).toMatchObject({ maxNewTokens: 0, endIds: [], sampling: GREEDY_SAMPLING });
  running.plan(job.promptIds.length);
  running.append(row([3, 4, 12, 84]));
  for await (const event of job.stream) if (event.kind === 'vector') return event.vector;
  return expect.fail('no finish');
}

describe('a text to embed', () => {
  it('may fill the whole length, and no more', () => {
    expect(jobOf(8, null).maxNewTokens).toBe(0);
    expect(() => jobOf(9, null)).toThrow('maximum text length is 8 tokens, but the text has 9');
    expect(() => jobOf(0, null)).toThrow('no token');
  });

  it('gets the whole vector unless it asks for less', async () => {
    expect(await vectorOf(jobOf(3, null))).toEqual([3, 4, 12, 84]);
    expect(await vectorOf(jobOf(3, 4))).toEqual([3, 4, 12, 84]);
  });

  it('gets a shorter one where the model was trained for it, of length 1 where the whole one is', async () => {
    expect(await vectorOf(jobOf(3, 2, []))).toEqual([0.6, 0.8]);
    expect(await vectorOf(jobOf(3, 2, [2], false))).toEqual([3, 4]);
  });

  it('gets length 1 where that is asked for, whole or shorter', async () => {
    const [whole] = [await vectorOf(jobOf(3, null, [], false, true))];
    expect(Math.hypot(...whole)).toBeCloseTo(1, 12);
    expect(whole[1]! / whole[0]!).toBeCloseTo(4 / 3, 12);
    expect(await vectorOf(jobOf(3, 2, [2], false, true))).toEqual([0.6, 0.8]);
    // What the model has normalised stays as it is, to the bit.
    expect(await vectorOf(jobOf(3, null, [], true, true))).toEqual([3, 4, 12, 84]);
  });

  it('is refused another length, with those that there are', () => {
    expect(() => jobOf(3, 2)).toThrow(
      'dimensions is 2; vectors of this model have 4: the model was not trained',
    );
    expect(() => jobOf(3, 3, [2])).toThrow('have 4 or one of 2');
    expect(() => jobOf(3, 5, [])).toThrow('have at most 4');
  });
});
