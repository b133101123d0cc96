/**
 * What `--verify` expects of the rotary tables.
 *
 * In      the manifest's tensor, ModelShape, its rows
 * Out     nothing: the first difference is thrown
 * Why so  written apart from architectures/rope-table.ts, in double precision
 * Errors  ServingError SHARDS_INVALID naming tensor, position and pair
 */
import type { TensorEntry } from '../../proto/manifest.js';
import type { ModelShape } from '../plan/model-shape.js';
import { invalid } from './verify-error.js';

/** Against the angles in double precision: a float32 angle is off by up to 2^-24 of itself. */
export function compareRope(
  tensor: TensorEntry,
  shape: ModelShape,
  rowAt: (row: number) => Float32Array,
): void {
  const rope = shape.ropes[Number(/^rope-(\d+)/.exec(tensor.name)?.[1] ?? 0)];
  if (!rope) throw invalid(`${tensor.name}: the model has no such table`);
  const { theta, rotaryDim, scaling } = rope;
  const [rows = 0, pairs = 0] = tensor.shape;
  // With two tables the first holds the positions of short sequences.
  const isInTwo = scaling.kind === 'longrope' && scaling.originalContextLength < shape.contextLength;
  const firstLong = isInTwo ? scaling.originalContextLength : 0;
  const size = scaling.kind === 'yarn' || scaling.kind === 'longrope' ? scaling.attentionFactor : 1;
  for (let index = 0; index < rows; index++) {
    const row = rowAt(index);
    const isLong = firstLong > 0 && index >= firstLong;
    const position = isLong ? index - firstLong : index;
    for (let pair = 0; pair < pairs; pair++) {
      let frequency = 1 / theta ** ((2 * pair) / rotaryDim);
      if (scaling.kind === 'linear') frequency /= scaling.factor;
      if (scaling.kind === 'llama3') {
        const turns = (scaling.originalContextLength * frequency) / (2 * Math.PI);
        const { lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
        const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
        frequency *= kept + (1 - kept) / scaling.factor;
      }
      if (scaling.kind === 'yarn') {
        const ramp = Math.min(1, Math.max(0, (pair - scaling.low) / (scaling.high - scaling.low)));
        frequency *= 1 - ramp + ramp / scaling.factor;
      }
      if (scaling.kind === 'longrope') {
        frequency /= (isLong ? scaling.longFactors : scaling.shortFactors)[pair] ?? Number.NaN;
      }
      const angle = position * frequency;
      const grown = rope.growth
        ? 1 + rope.growth.factor * Math.log1p(Math.floor(position / rope.growth.period))
        : 1;
      const expected = size * grown * (tensor.name.endsWith('.cos') ? Math.cos(angle) : Math.sin(angle));
      if (!(Math.abs(row[pair]! - expected) <= 1e-6 + angle * 1e-6)) {
        throw invalid(`${tensor.name}: position ${position}, pair ${pair} is ${row[pair]}, not ${expected}`);
      }
    }
  }
}
