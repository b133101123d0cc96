/**
 * What a step runs, and the buffers it runs over: the manifest's `program` and `buffers`.
 *
 * In      ModelShape, world size, sizes of one rank
 * Out     buffers, io and program, in the words of proto/manifest.ts
 * Pure
 *
 * A layer is  qkv → attend → out → all-reduce → mlp → all-reduce,
 * or, where attention and MLP stand side by side,  qkv → attend → out-mlp → all-reduce.
 * The residual stream goes back and forth between two buffers and is never written in place; partial sums and sums alternate
 * likewise, since a transport may still be sending one while the next is computed. That holds from one step to the next as
 * well: with an odd number of sums the last one has a partial of its own, and a single one is followed by an empty one.
 * A single rank writes its sum at once: no all-reduce, no partial.
 * At the end there are logits, or, of an embedding model,  hidden → pool → vector;  or, of a classifier of tokens,  hidden → vector.
 */
import type { AttendVariant } from '../../proto/attend.js';
import type { Manifest, ManifestBuffer, ProgramOp } from '../../proto/manifest.js';
import { pooledColumns } from '../plan/embedding-shape.js';
import { cachedHeadDim, type ModelShape, needsPositions, sinkColumn } from '../plan/model-shape.js';

type Place = ManifestBuffer['place'];

/** All-reduces the model needs in a step of several ranks. */
const sumsPerStep = ({ residual, numLayers }: ModelShape): number =>
  residual === 'parallel' ? numLayers : 2 * numLayers;

/** Partial buffer of the step's `index`-th sum: never that of the sum before, be it the last of the step before. */
function partialOf(index: number, sums: number): string {
  const isOddLast = sums > 1 && sums % 2 === 1 && index === sums - 1;
  return isOddLast ? 'partial2' : `partial${index % 2}`;
}

const sumOf = (index: number): string => `sum${index % 2}`;

const floats = (
  name: string,
  columns: number,
  place: Place = 'worker',
  shapeOf: ManifestBuffer['shape'] = 'rank2',
  first: ManifestBuffer['first'] = 'tokens',
): ManifestBuffer => ({ name, type: 'float32', first, columns, shape: shapeOf, place });

function outputBuffers(
  { embedding, hiddenSize }: ModelShape,
  perRank: Manifest['perRank'],
): ManifestBuffer[] {
  const ofRows = (name: string, columns: number): ManifestBuffer =>
    floats(name, columns, 'worker', 'rank2', 'rows');
  if (embedding === null) return [ofRows('logits', perRank.vocab)];
  if (embedding.poolings.length === 0)
    return [floats('hidden', hiddenSize), floats('vector', embedding.dimensions)];
  return [
    floats('hidden', hiddenSize),
    ofRows('pooled', pooledColumns(embedding, hiddenSize)),
    ofRows('vector', embedding.dimensions),
  ];
}

export function planBuffers(
  shape: ModelShape,
  worldSize: number,
  perRank: Manifest['perRank'],
): Pick<Manifest, 'buffers' | 'io'> {
  const { hiddenSize } = shape;
  const headDim = cachedHeadDim(shape);
  const queryColumns = perRank.numHeads * headDim;
  const kvColumns = perRank.numKvHeads * headDim;
  const integers = (
    name: string,
    first: ManifestBuffer['first'],
    shapeOf: ManifestBuffer['shape'],
  ): ManifestBuffer => ({ name, type: 'int64', first, columns: 1, shape: shapeOf, place: 'worker' });
  const isSplit = worldSize > 1;
  const sums = sumsPerStep(shape);
  const indices = Array.from({ length: sums }, (_, index) => index);
  const partials = [...new Set([...indices.map((index) => partialOf(index, sums)), 'partial0', 'partial1'])];
  const buffers = [
    integers('ids', 'tokens', 'rank1'),
    integers('positions', 'tokens', 'row'),
    integers('rows', 'rows', 'rank1'),
    ...(shape.textKinds === 1 ? [] : [integers('kinds', 'tokens', 'rank1')]),
    floats('residual0', hiddenSize),
    floats('residual1', hiddenSize),
    floats('query', queryColumns, 'worker', 'rank3'),
    floats('key', kvColumns, 'worker', 'rank3'),
    // Where latents are cached, values are the keys' first columns.
    ...(shape.latent === null ? [floats('value', kvColumns, 'worker', 'rank3')] : []),
    floats('attended', queryColumns),
    ...(isSplit ? partials.map((name) => floats(name, hiddenSize, 'partial')) : []),
    floats('sum0', hiddenSize, isSplit ? 'sum' : 'worker'),
    floats('sum1', hiddenSize, isSplit ? 'sum' : 'worker'),
    ...outputBuffers(shape, perRank),
  ];
  const output = shape.embedding === null ? 'logits' : 'vector';
  const kinds = shape.textKinds === 1 ? {} : { kinds: 'kinds' };
  return { buffers, io: { ids: 'ids', positions: 'positions', rows: 'rows', ...kinds, output } };
}

/** A sequence that is alone in its step and one among several, for each window that layers have. */
const remoteVariants = ({ windows }: ModelShape): AttendVariant[] =>
  [...new Set(windows)].flatMap((window): AttendVariant[] => {
    const suffix = window === null ? '' : `-${window}`;
    return [
      { segment: `attend-whole${suffix}`, when: { queries: 'alone', window } },
      { segment: `attend-part${suffix}`, when: { queries: 'packed', window } },
    ];
  });

const HOST_VARIANTS: readonly AttendVariant[] = [
  { segment: 'attend', when: { queries: 'chunk' } },
  { segment: 'attend-masked', when: { queries: 'masked-chunk' } },
];
const TOKEN_VARIANT: AttendVariant = { segment: 'attend-token', when: { queries: 'token' } };

export function planProgram(
  shape: ModelShape,
  worldSize: number,
  deviceClass: Manifest['deviceClass'] = 'cpu',
): Pick<Manifest, 'program' | 'attend' | 'sumSegment'> {
  const positions = { positions: 'positions' };
  const program: ProgramOp[] = [
    {
      op: 'run',
      segment: 'embed',
      inputs: {
        ids: 'ids',
        ...(shape.names.positions === null ? {} : positions),
        ...(shape.textKinds === 1 ? {} : { kinds: 'kinds' }),
      },
      outputs: { residual: 'residual0' },
    },
  ];
  const total = sumsPerStep(shape);
  let sums = 0;
  let residual = 0;
  /** Segment, then the sum of what it makes on all ranks. */
  const runAndSum = (
    segment: string,
    inputs: Record<string, string>,
    outputs: Record<string, string> = {},
  ): void => {
    const sum = sumOf(sums);
    const partial = worldSize > 1 ? partialOf(sums, total) : sum;
    program.push({ op: 'run', segment, inputs, outputs: { partial, ...outputs } });
    if (worldSize > 1) program.push({ op: 'all-reduce', partial, sum });
    sums++;
  };
  const lastSum = (): string => sumOf(sums - 1);
  shape.windows.forEach((window, layer) => {
    const made = { query: 'query', key: 'key', ...(shape.latent === null ? { value: 'value' } : {}) };
    const piece = shape.pieces[layer] ?? null;
    const isFirst = layer === 0;
    program.push({
      op: 'run',
      segment: `layer-${layer}-qkv`,
      inputs: {
        residual: `residual${residual}`,
        ...(isFirst ? {} : { sum: lastSum() }),
        ...(needsPositions(shape, layer) ? positions : {}),
      },
      outputs: isFirst ? made : { ...made, 'next-residual': `residual${1 - residual}` },
    });
    if (!isFirst) residual = 1 - residual;
    program.push({
      ...{ op: 'attend', layer, query: 'query', key: 'key', output: 'attended', window },
      value: shape.latent === null ? 'value' : 'key',
      ...(piece === null ? {} : { piece }),
    });
    if (shape.residual === 'parallel') {
      runAndSum(`layer-${layer}-out-mlp`, { attended: 'attended', residual: `residual${residual}` });
      return;
    }
    runAndSum(`layer-${layer}-out`, { attended: 'attended' });
    runAndSum(
      `layer-${layer}-mlp`,
      { residual: `residual${residual}`, sum: lastSum() },
      { 'next-residual': `residual${1 - residual}` },
    );
    residual = 1 - residual;
  });
  const last = { residual: `residual${residual}`, sum: lastSum() };
  if (shape.embedding === null) {
    const inputs = { ...last, rows: 'rows' };
    program.push({ op: 'run', segment: 'head', inputs, outputs: { logits: 'logits' } });
  } else {
    program.push({ op: 'run', segment: 'hidden', inputs: last, outputs: { hidden: 'hidden' } });
    const poolings = [...shape.embedding.poolings];
    const pooled = poolings.length === 0 ? 'hidden' : 'pooled';
    if (poolings.length > 0) program.push({ op: 'pool', hidden: 'hidden', pooled, poolings });
    const vector = { inputs: { pooled }, outputs: { vector: 'vector' } };
    program.push({ op: 'run', segment: 'vector', ...vector });
  }
  if (worldSize > 1 && total === 1) program.push({ op: 'all-reduce', partial: 'partial1', sum: 'sum1' });
  const keysIn = shape.attention === 'bidirectional' ? 'step' : 'slot';
  const column = sinkColumn(shape);
  const hostVariants = keysIn === 'slot' ? [...HOST_VARIANTS, TOKEN_VARIANT] : [...HOST_VARIANTS];
  return {
    program,
    attend: {
      variants: deviceClass === 'cpu' ? hostVariants : remoteVariants(shape),
      keysIn,
      ...(column === null ? {} : { sinkColumn: column }),
      // Rounded ones are a column like others.
      ...(shape.alibiSlopes === null || shape.alibiRounded ? {} : { positionColumn: shape.headDim }),
      ...(shape.latent === null ? {} : { valuesAreKeys: true as const }),
      ...(shape.relativeBias === null ? {} : { bias: 'relative' as const }),
      ...(shape.distances === null ? {} : { distanceRows: 2 * shape.distances.span }),
      ...(shape.attentionSoftCap === null ? {} : { softCap: shape.attentionSoftCap }),
      ...(deviceClass === 'cpu' ? {} : { copyRows: 'copy-rows' }),
      // CUDA's operator takes halves alone.
      ...(deviceClass === 'cuda' ? { cacheType: 'float16' as const } : {}),
    },
    sumSegment: worldSize > 1 ? 'sum' : null,
  };
}
