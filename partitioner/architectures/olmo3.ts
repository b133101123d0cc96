/**
 * OLMo 3: OLMo 2 with a window on all but every fourth layer; a scaling of positions is for the layers without one.
 *
 * Source  transformers: configuration and modeling of olmo3
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { RopeShape } from '../plan/model-shape.js';
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';
import { requireValue } from './known-keys.js';
import { olmo2Traits } from './olmo2.js';
import { readRopeSection } from './read-rope.js';

const PATTERN = 4;
const DEFAULT_THETA = 500_000;

export const family: Family = {
  architectures: ['Olmo3ForCausalLM'],
  modelTypes: ['olmo3'],
  shape(config) {
    const windows = readWindows(config, readWindowSize(config), (layer) => (layer + 1) % PATTERN !== 0);
    return readDecoderShape(config, {
      ...olmo2Traits(config),
      windows,
      ropes: (headDim) => readRopes(config, headDim),
      layerRopes: windows.map((window) => (window === null ? 0 : 1)),
    });
  },
};

/** The rotation of full layers, then that of layers with a window; in either layout of config.json. */
function readRopes(config: CheckpointConfig, headDim: number): RopeShape[] {
  const both = config.section('rope_parameters');
  // transformers takes one beside `rope_scaling` for full layers alone.
  if (both === null) requireValue(config, 'rope_theta', DEFAULT_THETA);
  const full = both === null ? config.section('rope_scaling') : both.section('full_attention');
  const traits = { defaultTheta: DEFAULT_THETA };
  return [
    readRopeSection(config, full, headDim, traits),
    readRopeSection(config, both?.section('sliding_attention') ?? null, headDim, traits),
  ];
}
