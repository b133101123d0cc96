/**
 * Gemma 3, text only: Gemma 2 with norms of queries and keys, and another rotation on the layers with a window.
 *
 * Source  transformers: configuration_gemma3.py (Gemma3TextConfig), modeling_gemma3.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import type { RopeShape } from '../plan/model-shape.js';
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';
import { gemma2Traits } from './gemma2.js';
import { readRopeSection } from './read-rope.js';

const GLOBAL_THETA = 1_000_000;
const LOCAL_THETA = 10_000;
const PATTERN = 6;

export const family: Family = {
  architectures: ['Gemma3ForCausalLM'],
  modelTypes: ['gemma3_text'],
  shape(config) {
    const pattern = config.positiveInteger('sliding_window_pattern', PATTERN);
    const windows = readWindows(config, readWindowSize(config), (layer) => (layer + 1) % pattern !== 0);
    return readDecoderShape(config, {
      ...gemma2Traits(config),
      headNorm: 'per-head',
      // config.json may have a cap; no code reads it.
      attentionSoftCap: null,
      windows,
      ropes: (headDim) => readRopes(config, headDim),
      layerRopes: windows.map((window) => (window === null ? 0 : 1)),
    });
  },
};

/** The rotation of full layers, then that of layers with a window; in either layout of config.json. */
function readRopes(config: CheckpointConfig, headDim: number): RopeShape[] {
  const both = config.section('rope_parameters');
  const full = both === null ? config.section('rope_scaling') : both.section('full_attention');
  const local = both?.section('sliding_attention') ?? null;
  return [
    readRopeSection(config, full, headDim, { defaultTheta: GLOBAL_THETA }),
    readRopeSection(config, local, headDim, { thetaKey: 'rope_local_base_freq', defaultTheta: LOCAL_THETA }),
  ];
}
