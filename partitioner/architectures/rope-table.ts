/**
 * Rotary tables: cosines and sines of every position's angles, as Hugging Face computes them in float32.
 *
 * In      RopeShape, a range of positions
 * Out     float32 [positions, rotaryDim / 2] each
 * Why so  every step is rounded to float32 where transformers' float32 arithmetic rounds: an angle at position 4000 that is
 *         rounded elsewhere differs by 1e-4, which shows in the logits
 * Source  transformers modeling_rope_utils: _compute_default_rope_parameters, _compute_linear_…, _compute_llama3_…
 */
import type { RopeShape } from '../model-shape.js';

const round = Math.fround;

/** Angle per position of each rotated pair, float32 [rotaryDim / 2]. */
export function ropeFrequencies(rope: RopeShape): Float32Array {
  const frequencies = new Float32Array(rope.rotaryDim / 2);
  for (let pair = 0; pair < frequencies.length; pair++) {
    const exponent = round((2 * pair) / rope.rotaryDim);
    frequencies[pair] = 1 / round(rope.theta ** exponent);
  }
  return frequencies.map((frequency) => scaleFrequency(frequency, rope));
}

function scaleFrequency(frequency: number, { scaling }: RopeShape): number {
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
  }
}

/**
 * @param start first position
 * @param end one past the last
 * @returns cosines and sines, float32 [end - start, rotaryDim / 2]
 */
export function ropeTable(
  frequencies: Float32Array,
  start: number,
  end: number,
): { cos: Float32Array; sin: Float32Array } {
  const columns = frequencies.length;
  const cos = new Float32Array((end - start) * columns);
  const sin = new Float32Array((end - start) * columns);
  for (let position = start; position < end; position++) {
    for (let pair = 0; pair < columns; pair++) {
      const angle = round(position * (frequencies[pair] ?? 0));
      const index = (position - start) * columns + pair;
      cos[index] = Math.cos(angle);
      sin[index] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
