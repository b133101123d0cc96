/**
 * The tables of partitioner/FAMILIES.md, made from the family files, the named shapes, the goldens and the partitioner's plan.
 * `npm run docs` writes them between the two markers.
 *
 * In      partitioner/architectures/*.ts (head comments, architectures), partitioner/shapes, test/golden
 * Out     Markdown, the same on every machine
 * Errors  throws where a family has neither shape nor golden, or a shape no family
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Family } from '../../partitioner/architectures/decoder-shape.js';
import { findFamily, loadFamilies } from '../../partitioner/architectures/registry.js';
import { readModelConfig } from '../../partitioner/checkpoint/config-file.js';
import { shapeFolder, shapeNames } from '../../partitioner/named-shapes.js';
import { recogniseFolder } from '../../partitioner/open-model.js';
import { planPartition } from '../../partitioner/partition.js';
import type { Plan } from '../../partitioner/plan/plan.js';
import { countParameters } from '../../partitioner/plan/role-tensors.js';
import { chooseWeightFormat } from '../../partitioner/quantise/weight-format.js';
import { ServingError } from '../../proto/errors.js';
import { filesUnder, ROOT, readText } from './repository.js';

export const FAMILIES_FILE = 'partitioner/FAMILIES.md';
export const FAMILIES_START = '<!-- families -->';
export const FAMILIES_END = '<!-- /families -->';

const DEGREES = [1, 2, 4, 8];
const DTYPES = ['int4', 'fp32'] as const;

/** Without the markers, ending in a line break. */
export async function renderFamilyTable(): Promise<string> {
  const families = await loadFamilies();
  const goldens = await namesByFamily(goldenNames(), (name) => path.join(ROOT, 'test/golden', name));
  const shapes = await namesByFamily(shapeNames(), shapeFolder);
  const headings = familyHeadings(families);
  const covered = ['| Family | Architectures answered | Goldens |', '|---|---|---|'];
  const sizes = [
    '| Model | Parameters | Shared, GB | int4 a rank, GB, tp 1 / 2 / 4 / 8 | fp32 a rank, GB, tp 1 / 2 / 4 / 8 |',
    '|---|---|---|---|---|',
  ];
  const undivided = new Map<string, Set<string>>();
  for (const family of families) {
    const [answered, made] = [family.architectures, goldens.get(family) ?? []].map(codeList);
    assert(made !== '', `no golden for ${family.architectures}`);
    covered.push(`| ${headings.get(family)} | ${answered} | ${made} |`);
    const known = shapes.get(family) ?? [];
    assert(known.length > 0, `no shape for ${family.architectures}`);
    for (const name of known) sizes.push(await sizeRow(name, undivided));
  }
  const reasons = [...undivided].map(([reason, dtypes]) => `- ${reason} (${[...dtypes].join(', ')})`);
  return `${[...covered, '', ...sizes, '', 'Degrees that do not work (—):', '', ...reasons].join('\n')}\n`;
}

const codeList = (names: readonly string[] = []): string => names.map((name) => `\`${name}\``).join(', ');

/** The first paragraph of each family file's head comment. */
function familyHeadings(families: readonly Family[]): Map<Family, string> {
  // The registry has them by file name too.
  const texts = filesUnder('partitioner/architectures', ['.ts'])
    .sort()
    .map(readText)
    .filter((text) => /^export const family\b/m.test(text));
  assert.equal(texts.length, families.length);
  return new Map(
    families.map((family, index) => {
      const text = texts[index] ?? '';
      const paragraph = /^\/\*\*\n((?: \* .*\n)+)/.exec(text)?.[1];
      assert(paragraph !== undefined && text.includes(`'${family.architectures[0]}'`), text.slice(0, 80));
      return [family, paragraph.replaceAll(/^ \* /gm, '').trim().replaceAll('\n', ' ')];
    }),
  );
}

function goldenNames(): string[] {
  const folder = path.join(ROOT, 'test/golden');
  return readdirSync(folder)
    .filter((name) => existsSync(path.join(folder, name, 'config.json')))
    .sort();
}

async function namesByFamily(
  names: readonly string[],
  folderOf: (name: string) => string,
): Promise<Map<Family, string[]>> {
  const found = new Map<Family, string[]>();
  const families = await loadFamilies();
  for (const name of names) {
    const answering = await findFamily(readModelConfig(folderOf(name)));
    // One whose hidden states are wanted is the decoder's with another shape.
    const family = families.find(({ architectures }) => architectures === answering?.architectures);
    assert(family !== undefined, `${name} is of no family`);
    found.set(family, [...(found.get(family) ?? []), name]);
  }
  return found;
}

async function sizeRow(name: string, undivided: Map<string, Set<string>>): Promise<string> {
  const cells: string[] = [];
  let first: Sizes | undefined;
  for (const dtype of DTYPES) {
    const sizes: string[] = [];
    for (const tp of DEGREES) {
      const plan = await planOrReason(name, tp, dtype);
      if (typeof plan === 'string') {
        const key = `${name}: ${plan}`;
        undivided.set(key, (undivided.get(key) ?? new Set()).add(dtype));
      } else first ??= plan;
      sizes.push(typeof plan === 'string' ? '—' : gigabytes(plan.rankBytes));
    }
    cells.push(sizes.join(' / '));
  }
  assert(first !== undefined, name);
  const { parameters } = first;
  const count = parameters < 1e9 ? `${Math.round(parameters / 1e6)} M` : `${(parameters / 1e9).toFixed(2)} G`;
  return `| ${name} | ${count} | ${gigabytes(first.sharedBytes)} | ${cells.join(' | ')} |`;
}

async function planOrReason(
  name: string,
  tp: number,
  dtype: (typeof DTYPES)[number],
): Promise<Sizes | string> {
  try {
    return await sizesOf(shapeFolder(name), tp, dtype);
  } catch (error) {
    if (error instanceof ServingError && error.code === 'TENSOR_PARALLEL_INVALID') {
      return error.message.replace(/^tensor parallel degree \d+: /, '').replace(' by it', ' by the degree');
    }
    throw error;
  }
}

type Sizes = Pick<Plan, 'parameters' | 'rankBytes' | 'sharedBytes'>;

/** Layers with experts come after those without, in a few at most: the last ones are alike. */
const FEW_LAYERS = 5;

/** A model of many layers goes by what two small ones need, one round of layers apart: plans of all of them take 18 s. */
async function sizesOf(folder: string, tp: number, dtype: (typeof DTYPES)[number]): Promise<Sizes> {
  const config = readModelConfig(folder);
  const { raw } = config;
  const layers = Number(raw.num_hidden_layers);
  const { shape } = await recogniseFolder(config, false);
  // A part of a large model would be taken for a small one.
  const parameters = countParameters(shape);
  const { eightBit } = chooseWeightFormat({ layout: 'panels', dtype }, parameters, shape.numLayers);
  const plan = async (at: string): Promise<Sizes> =>
    (await planPartition({ layout: 'panels', folder: at, tp, dtype, eightBit })).plan;
  if (!(layers > FEW_LAYERS)) return plan(folder);
  const scratch = mkdtempSync(path.join(tmpdir(), 'family-sizes-'));
  try {
    const ofLayers = (count: number): Promise<Sizes> => {
      const cut = Object.entries(raw).map(([key, value]) =>
        Array.isArray(value) && value.length === layers ? [key, value.slice(0, count)] : [key, value],
      );
      const shortened = { ...Object.fromEntries(cut), num_hidden_layers: count };
      writeFileSync(path.join(scratch, 'config.json'), JSON.stringify(shortened));
      return plan(scratch);
    };
    // Llama 4 has experts on every so manieth layer.
    const round = Number(raw.interleave_moe_layer_step ?? 1);
    const least = FEW_LAYERS - 1;
    assert((layers - least) % round === 0, folder);
    const [fewer, more] = [await ofLayers(least), await ofLayers(least + round)];
    const whole = (key: keyof Sizes): number =>
      fewer[key] + ((layers - least) / round) * (more[key] - fewer[key]);
    return {
      parameters: whole('parameters'),
      rankBytes: whole('rankBytes'),
      sharedBytes: whole('sharedBytes'),
    };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(2);
