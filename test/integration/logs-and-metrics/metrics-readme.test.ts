/** The documentation of the metrics against what is exported. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { djlRows } from '../../../server/metrics/djl-rows.js';
import { GPU_ROWS } from '../../../server/metrics/gpu-rows.js';
import { LLM_ROWS } from '../../../server/metrics/llm-rows.js';
import { VLLM_ROWS } from '../../../server/metrics/vllm-rows.js';
import { repositoryRoot } from '../../support/repository-root.js';

const readme = readFileSync(path.join(repositoryRoot, 'server/metrics/README.md'), 'utf8');
const [beforeDjl, djl, vllm] = readme.split(/\n## (?:DJLServing|vLLM)/);

/** Name, type and labels of a table's rows. */
const documented = (text: string | undefined): string[] =>
  [...(text ?? '').matchAll(/^\| `([^`]+)` \| (\w+) \| ([^|]+) \|/gm)]
    .map(([, name, type, labels]) => `${name} ${type} ${labels}`)
    .sort();
const exported = (rows: readonly { name: string; kind: string; labels: readonly string[] }[]): string[] =>
  rows.map(({ kind, labels, name }) => `${name} ${kind} ${labels.join(', ')}`).sort();

it('every metric of ours is documented with its type and labels, and none besides', () => {
  expect(documented(beforeDjl)).toEqual(exported([...LLM_ROWS, ...GPU_ROWS]));
});

it("every metric under vLLM's names is documented with its type and labels, and none besides", () => {
  expect(documented(vllm)).toEqual(exported(VLLM_ROWS));
});

it("every metric under DJLServing's names is documented with its type and labels, and none besides", () => {
  expect(documented(djl)).toEqual(exported(djlRows('', '')));
});
