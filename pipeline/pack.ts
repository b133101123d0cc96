/**
 * A pipeline on disk: everything it needs, with checksums, and what it answered when it was traced.
 *
 * In      a graph, goldens; or a folder
 * Out     FOLDER/{model.spec.json, goldens.json, assets/…}; a Pipeline that has given the same answers again
 * Limits  MAX_CONFIG_FILE_BYTES for each JSON file; goldens to the bit, where an operator is not exact within GOLDEN_TOLERANCE of the largest
 * Errors  ServingError CHECKPOINT_INVALID: a file that is missing, changed or outside, an unknown operator, another answer
 *
 * A pack holds code (script): loading one runs it.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, lstat, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline as streamed } from 'node:stream/promises';
import { ServingError } from '../proto/errors.js';
import { MAX_CONFIG_FILE_BYTES } from '../proto/limits.js';
import { type Attributes, makeOp, stateOf } from './op.js';
import { OP_KINDS } from './op-kinds.js';
import { type Feeds, type Golden, type Outputs, Pipeline, type PipelineGraph } from './pipeline.js';
import { isEqual, type Json, plainOf, type Value, valueOfJson, valueToJson } from './pipeline-value.js';
import { ResourceFile } from './resource-file.js';
import type { Source } from './tracing.js';

export const SPEC_FILE = 'model.spec.json';
const GOLDENS_FILE = 'goldens.json';
const SCHEMA = 1;
export const GOLDEN_TOLERANCE = 1e-5;
const MAX_SHOWN = 200;

interface FileSpec {
  path: string;
  bytes: number;
  sha256: string;
}
type SourceSpec = { feed: string } | { node: number } | { value: Json };
interface Spec {
  schema: number;
  /** What it was made with: words are cut by ICU. */
  made: { node: string; icu: string };
  feeds: string[];
  ops: { kind: string; attributes: Json; files: number[] }[];
  nodes: { op: number; args: SourceSpec[] }[];
  outputs: { kind: 'one'; from: SourceSpec } | { kind: 'named'; from: Record<string, SourceSpec> };
  files: FileSpec[];
}

/** @throws ServingError */
export async function savePack(
  folder: string,
  graph: PipelineGraph,
  goldens: readonly Golden[],
): Promise<void> {
  const target = path.resolve(folder);
  if ((await lstat(target).catch(() => null)) !== null) throw invalid(`${target} is there already`);
  await mkdir(path.dirname(target), { recursive: true });
  // Beside the target, so that it appears whole or not at all.
  const work = await mkdtemp(path.join(path.dirname(target), '.pack-'));
  try {
    await mkdir(path.join(work, 'assets'));
    const files: FileSpec[] = [];
    const ops = [...new Set(graph.nodes.map(({ op }) => op))];
    const specs: Spec['ops'] = [];
    for (const op of ops) {
      const { attributes, files: resources, kind } = stateOf(op);
      const own: number[] = [];
      for (const resource of resources) own.push(await keepFile(resource.path, work, files));
      specs.push({ kind: kind.name, attributes: valueToJson(attributes), files: own });
    }
    const written = goldens.map(({ feeds, output }) => ({
      feeds: valueToJson(feeds),
      output: valueToJson(output),
    }));
    await writeFile(path.join(work, GOLDENS_FILE), JSON.stringify(written));
    files.push(await fileSpec(work, GOLDENS_FILE));
    const { icu = 'none', node } = process.versions;
    const spec: Spec = {
      schema: SCHEMA,
      made: { node, icu },
      feeds: [...graph.feeds],
      ops: specs,
      nodes: graph.nodes.map(({ args, op }) => ({ op: ops.indexOf(op), args: args.map(sourceToJson) })),
      outputs: outputsToJson(graph.outputs),
      files,
    };
    await writeFile(path.join(work, SPEC_FILE), JSON.stringify(spec, null, 2));
    await rename(work, target);
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    throw error;
  }
}

/** @param device `cpu`, or -1 as MATXScript says it. @throws ServingError */
export async function load(folder: string, device: 'cpu' | -1 = 'cpu'): Promise<Pipeline> {
  if (device !== 'cpu' && device !== -1) throw invalid(`pipelines run on the cpu, not on ${String(device)}`);
  const root = path.resolve(folder);
  const spec = (await readJson(root, SPEC_FILE)) as Spec;
  if (spec.schema !== SCHEMA)
    throw invalid(`${SPEC_FILE} is of schema ${String(spec.schema)}, not ${SCHEMA}`);
  for (const file of spec.files) await checkFile(root, file);
  const ops = spec.ops.map(({ attributes, files, kind }) => {
    const known = OP_KINDS.get(kind);
    if (known === undefined) throw invalid(`there is no operator ${kind}`);
    const resources = files.map((index) => new ResourceFile(path.join(root, spec.files[index]!.path)));
    return makeOp(known, valueOfJson(attributes) as Attributes, resources);
  });
  const graph: PipelineGraph = {
    feeds: spec.feeds,
    nodes: spec.nodes.map(({ args, op }, at) => {
      if (ops[op] === undefined) throw invalid(`node ${at} has no operator`);
      return { op: ops[op], args: args.map((one) => sourceOfJson(one, at)) };
    }),
    outputs: outputsOfJson(spec.outputs, spec.nodes.length),
  };
  const goldens = ((await readJson(root, GOLDENS_FILE)) as { feeds: Json; output: Json }[]).map(
    ({ feeds, output }): Golden => ({ feeds: valueOfJson(feeds) as Feeds, output: valueOfJson(output) }),
  );
  const loaded = new Pipeline(graph, goldens, savePack);
  await checkGoldens(loaded, goldens, spec);
  return loaded;
}

async function checkGoldens(loaded: Pipeline, goldens: readonly Golden[], { made }: Spec): Promise<void> {
  const isExact = loaded.graph.nodes.every(({ op }) => stateOf(op).kind.isExact);
  for (const [index, { feeds, output }] of goldens.entries()) {
    const given = await loaded.run(feeds);
    if (isEqual(given, output, isExact ? 0 : GOLDEN_TOLERANCE)) continue;
    const shown = (value: Value): string => JSON.stringify(plainOf(value)).slice(0, MAX_SHOWN);
    throw invalid(
      `example ${index} gives ${shown(given)} here and ${shown(output)} where it was traced (Node ${made.node}, ICU ${made.icu}; here ${process.versions.node}, ${process.versions.icu})`,
    );
  }
}

async function keepFile(source: string, work: string, files: FileSpec[]): Promise<number> {
  const { bytes, sha256 } = await digestOf(source);
  const name = `assets/${sha256.slice(0, 12)}-${path.basename(source).replace(/[^\w.-]/g, '_')}`;
  const known = files.findIndex((one) => one.path === name);
  if (known >= 0) return known;
  await copyFile(source, path.join(work, name));
  files.push({ path: name, bytes, sha256 });
  return files.length - 1;
}

const fileSpec = async (root: string, name: string): Promise<FileSpec> => ({
  path: name,
  ...(await digestOf(path.join(root, name))),
});

async function digestOf(file: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  await streamed(createReadStream(file), async (pieces: AsyncIterable<Buffer>) => {
    for await (const piece of pieces) {
      bytes += piece.length;
      hash.update(piece);
    }
  });
  return { bytes, sha256: hash.digest('hex') };
}

async function checkFile(root: string, { bytes, path: name, sha256 }: FileSpec): Promise<void> {
  if (typeof name !== 'string' || !/^(?:assets\/)?[\w-][\w.-]*$/.test(name))
    throw invalid(`${String(name)} is no file of a pack`);
  const file = path.join(root, name);
  const found = await lstat(file).catch(() => null);
  if (!found?.isFile()) throw invalid(`${name} is missing`);
  const actual = found.size === bytes ? await digestOf(file) : null;
  if (actual?.sha256 !== sha256) throw invalid(`${name} is not the file that was packed`);
}

async function readJson(root: string, name: string): Promise<unknown> {
  const file = path.join(root, name);
  const found = await lstat(file).catch(() => null);
  if (!found?.isFile()) throw invalid(`there is no ${name} in ${root}`);
  if (found.size > MAX_CONFIG_FILE_BYTES)
    throw invalid(`${name} has ${found.size} bytes, of at most ${MAX_CONFIG_FILE_BYTES}`);
  try {
    return JSON.parse(await readFile(file, 'utf8')) as unknown;
  } catch (error) {
    throw invalid(`${name} is not JSON: ${(error as Error).message}`);
  }
}

const sourceToJson = (source: Source): SourceSpec =>
  'value' in source ? { value: valueToJson(source.value) } : source;

/** @param before nodes that a source may name */
function sourceOfJson(source: SourceSpec, before: number): Source {
  if ('value' in source) return { value: valueOfJson(source.value) };
  if ('node' in source && !(Number.isInteger(source.node) && source.node >= 0 && source.node < before))
    throw invalid(`a node takes the answer of node ${source.node}, which comes after it`);
  return source;
}

function outputsToJson(outputs: Outputs): Spec['outputs'] {
  if (outputs.kind === 'one') return { kind: 'one', from: sourceToJson(outputs.from) };
  const named = Object.entries(outputs.from).map(([name, from]) => [name, sourceToJson(from)]);
  return { kind: 'named', from: Object.fromEntries(named) as Record<string, SourceSpec> };
}

function outputsOfJson(outputs: Spec['outputs'], nodes: number): Outputs {
  if (outputs.kind === 'one') return { kind: 'one', from: sourceOfJson(outputs.from, nodes) };
  const named = Object.entries(outputs.from).map(
    ([name, from]) => [name, sourceOfJson(from, nodes)] as const,
  );
  return { kind: 'named', from: Object.fromEntries(named) };
}

const invalid = (message: string): ServingError =>
  new ServingError('CHECKPOINT_INVALID', `The pipeline pack is refused: ${message}`);
