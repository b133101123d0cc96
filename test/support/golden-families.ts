/** The tiny checkpoints of test/golden/tiny_families.py that are there, and how far logits are from theirs. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { goldenFolder } from './golden.js';

/** test/integration/models/golden.test.ts has these, which keep the logits of all positions. */
const ELSEWHERE = ['chooser', 'tokenizer', 'embedded', 'llama', 'llama-linear', 'mistral', 'qwen2', 'qwen3'];

export const GOLDEN_FAMILIES: readonly string[] = readdirSync(goldenFolder(''), { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !ELSEWHERE.includes(entry.name))
  .map((entry) => entry.name)
  // The maker's temporary folders have none until they are whole.
  .filter((name) => existsSync(path.join(goldenFolder(name), 'golden.json')));

/** What a split model's logits may differ by from transformers' at fp32, of the largest of them: the worst that was seen is 5.2e-6. */
export const RELATIVE_TOLERANCE = 1e-5;

/** max |seen − expected| / max |expected| */
export function relativeDeviation(seen: Float32Array, expected: Float32Array): number {
  assert.equal(seen.length, expected.length);
  let difference = 0;
  let size = 0;
  expected.forEach((value, index) => {
    const distance = Math.abs((seen[index] ?? Number.NaN) - value);
    // Also when it is no number.
    difference = distance <= difference ? difference : distance;
    size = Math.max(size, Math.abs(value));
  });
  return difference / size;
}
