/**
 * Rotary tables: cosines and sines of every position's angles, as Hugging Face computes them in float32.
 *
 * In      RopeShape, a range of rows
 * Out     float32 [rows, rotaryDim / 2] each; a row is a position. With LongRoPE the short table's positions come first, then
 *         all positions once more in the long one (longContext)
 * Why so  every step is rounded to float32 where transformers' float32 arithmetic rounds: an angle at position 4000 that is
 *         rounded elsewhere differs by 1e-4, which shows in the logits
 * Source  transformers modeling_rope_utils: _compute_default_rope_parameters, _compute_linear_…, _llama3_…, _yarn_…, _longrope_…
 */
import { MAX_STEP_TOKENS } from '../../proto/limits.js';
import type { RopeShape } from '../plan/model-shape.js';

const round = Math.fround;

/** Angle per position of each rotated pair, float32 [rotaryDim / 2]. @param isLong LongRoPE's factors for long sequences */
export function ropeFrequencies(rope: RopeShape, isLong = false): Float32Array {
  const frequencies = new Float32Array(rope.rotaryDim / 2);
  for (let pair = 0; pair < frequencies.length; pair++) {
    const exponent = round((2 * pair) / rope.rotaryDim);
    frequencies[pair] = scaleFrequency(round(rope.theta ** exponent), pair, rope, isLong);
  }
  return frequencies;
}

/** @param wave 1 / frequency: positions of one radian */
function scaleFrequency(wave: number, pair: number, { scaling }: RopeShape, isLong: boolean): number {
  const frequency = round(1 / wave);
  switch (scaling.kind) {
    case 'none':
      return frequency;
    case 'linear':
      return frequency / scaling.factor;
    case 'llama3': {
      // Long waves are stretched, short ones kept, those between are mixed. PyTorch's number / tensor is number · (1 / tensor).
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
      const waveLength = round(round(1 / frequency) * round(2 * Math.PI));
      if (waveLength < scaling.originalContextLength / high) return frequency;
      if (waveLength > scaling.originalContextLength / low) return frequency / factor;
      const turns = round(round(1 / waveLength) * scaling.originalContextLength);
      const smooth = round(round(turns - low) / (high - low));
      const stretched = round(round(round(1 - smooth) * frequency) / factor);
      return round(stretched + round(smooth * frequency));
    }
    case 'yarn': {
      const { factor, low, high } = scaling;
      const ramp = Math.min(1, Math.max(0, round(round(pair - low) / round(high - low))));
      const kept = round(1 - ramp);
      const stretched = round(1 / round(factor * wave));
      return round(round(stretched * round(1 - kept)) + round(frequency * kept));
    }
    case 'longrope': {
      const factor = (isLong ? scaling.longFactors : scaling.shortFactors)[pair] ?? Number.NaN;
      return round(1 / round(round(factor) * wave));
    }
  }
}

/** Where LongRoPE's second table begins: sequences longer than `after` add `positionOffset` to their positions. */
export interface LongContext {
  after: number;
  positionOffset: number;
}

/** Null: one table for all lengths. */
export function longContext({ scaling }: RopeShape, contextLength: number): LongContext | null {
  if (scaling.kind !== 'longrope' || scaling.originalContextLength >= contextLength) return null;
  return { after: scaling.originalContextLength, positionOffset: scaling.originalContextLength };
}

/**
 * Rows of a table for this context length: all positions, and as many as a step may have tokens of all its sequences, since ONNX
 * Runtime's RotaryEmbedding refuses more tokens than rows.
 */
export function ropeRows(rope: RopeShape, contextLength: number): number {
  return Math.max(MAX_STEP_TOKENS, contextLength + (longContext(rope, contextLength)?.positionOffset ?? 0));
}

/**
 * Rows `start` … `end` - 1 of the tables.
 *
 * @returns cosines and sines, float32 [end - start, rotaryDim / 2]
 */
export function ropeTable(
  rope: RopeShape,
  contextLength: number,
  start: number,
  end: number,
): { cos: Float32Array; sin: Float32Array } {
  const columns = rope.rotaryDim / 2;
  const cos = new Float32Array((end - start) * columns);
  const sin = new Float32Array((end - start) * columns);
  const { scaling } = rope;
  const short = ropeFrequencies(rope);
  const long = ropeFrequencies(rope, true);
  const offset = longContext(rope, contextLength)?.positionOffset ?? Number.POSITIVE_INFINITY;
  const factor = round('attentionFactor' in scaling ? scaling.attentionFactor : 1);
  for (let row = start; row < end; row++) {
    const [frequencies, position] = row < offset ? [short, row] : [long, row - offset];
    const { growth = { factor: 0, period: 1 } } = rope;
    const size = factor * (1 + growth.factor * Math.log(1 + Math.floor(position / growth.period)));
    for (let pair = 0; pair < columns; pair++) {
      const angle = round(position * (frequencies[pair] ?? 0));
      const index = (row - start) * columns + pair;
      cos[index] = round(Math.cos(angle)) * size;
      sin[index] = round(Math.sin(angle)) * size;
    }
  }
  return { cos, sin };
}
