/**
 * What a step runs, and the buffers it runs over: the manifest's `program` and `buffers`.
 *
 * In      ModelShape, world size, sizes of one rank
 * Out     buffers, io and program, in the words of proto/manifest.ts
 * Pure
 *
 * A layer is  qkv → attend → out → all-reduce → mlp → all-reduce. The residual stream goes back and forth between two
 * buffers and is never written in place; partial sums and sums alternate likewise, since a transport may still be sending
 * one while the next is computed. A single rank writes its sum at once: no all-reduce, no partial.
 */
import type { Manifest, ManifestBuffer, ProgramOp } from '../../proto/manifest.js';
import type { ModelShape } from '../model-shape.js';

type Place = ManifestBuffer['place'];

export function planBuffers(
  shape: ModelShape,
  worldSize: number,
  perRank: Manifest['perRank'],
): Pick<Manifest, 'buffers' | 'io'> {
  const { hiddenSize } = shape;
  const queryColumns = perRank.numHeads * perRank.headDim;
  const kvColumns = perRank.numKvHeads * perRank.headDim;
  const floats = (
    name: string,
    columns: number,
    place: Place = 'worker',
    shapeOf: ManifestBuffer['shape'] = 'rank2',
    first: ManifestBuffer['first'] = 'tokens',
  ): ManifestBuffer => ({ name, type: 'float32', first, columns, shape: shapeOf, place });
  const integers = (
    name: string,
    first: ManifestBuffer['first'],
    shapeOf: ManifestBuffer['shape'],
  ): ManifestBuffer => ({ name, type: 'int64', first, columns: 1, shape: shapeOf, place: 'worker' });
  const isSplit = worldSize > 1;
  const buffers = [
    integers('ids', 'tokens', 'rank1'),
    integers('positions', 'tokens', 'row'),
    integers('rows', 'rows', 'rank1'),
    floats('residual0', hiddenSize),
    floats('residual1', hiddenSize),
    floats('query', queryColumns, 'worker', 'rank3'),
    floats('key', kvColumns, 'worker', 'rank3'),
    floats('value', kvColumns, 'worker', 'rank3'),
    floats('attended', queryColumns),
    ...(isSplit
      ? [floats('partial0', hiddenSize, 'partial'), floats('partial1', hiddenSize, 'partial')]
      : []),
    floats('sum0', hiddenSize, isSplit ? 'sum' : 'worker'),
    floats('sum1', hiddenSize, isSplit ? 'sum' : 'worker'),
    floats('logits', perRank.vocab, 'worker', 'rank2', 'rows'),
  ];
  return { buffers, io: { ids: 'ids', positions: 'positions', rows: 'rows', logits: 'logits' } };
}

export function planProgram(shape: ModelShape, worldSize: number): Pick<Manifest, 'program' | 'attend'> {
  const program: ProgramOp[] = [
    { op: 'run', segment: 'embed', inputs: { ids: 'ids' }, outputs: { residual: 'residual0' } },
  ];
  /** Segment, then the sum of what it makes on all ranks. */
  const runAndSum = (
    segment: string,
    inputs: Record<string, string>,
    outputs: Record<string, string>,
    which: 0 | 1,
  ): void => {
    const partial = worldSize > 1 ? `partial${which}` : `sum${which}`;
    program.push({ op: 'run', segment, inputs, outputs: { partial, ...outputs } });
    if (worldSize > 1) program.push({ op: 'all-reduce', partial, sum: `sum${which}` });
  };
  let residual = 0;
  shape.windows.forEach((window, layer) => {
    const qkv = { query: 'query', key: 'key', value: 'value' };
    const isFirst = layer === 0;
    program.push({
      op: 'run',
      segment: `layer-${layer}-qkv`,
      inputs: isFirst
        ? { residual: `residual${residual}`, positions: 'positions' }
        : { residual: `residual${residual}`, sum: 'sum1', positions: 'positions' },
      outputs: isFirst ? qkv : { ...qkv, 'next-residual': `residual${1 - residual}` },
    });
    if (!isFirst) residual = 1 - residual;
    program.push({ op: 'attend', layer, ...qkv, output: 'attended', window });
    runAndSum(`layer-${layer}-out`, { attended: 'attended' }, {}, 0);
    runAndSum(
      `layer-${layer}-mlp`,
      { residual: `residual${residual}`, sum: 'sum0' },
      { 'next-residual': `residual${1 - residual}` },
      1,
    );
    residual = 1 - residual;
  });
  program.push({
    op: 'run',
    segment: 'head',
    inputs: { residual: `residual${residual}`, sum: 'sum1', rows: 'rows' },
    outputs: { logits: 'logits' },
  });
  return { program, attend: { segment: 'attend', maskedSegment: 'attend-masked' } };
}
