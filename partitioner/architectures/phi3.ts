/**
 * Phi-3, Phi-3.5 mini, Phi-4: Llama's block with fused tensors; LongRoPE in the long versions.
 *
 * Source  transformers: configuration_phi3.py, modeling_phi3.py
 */
import { type Family, readDecoderShape, readWindowSize, readWindows } from './decoder-shape.js';
import { stackedGateUp, stackedQkv } from './fused-qkv.js';

export const family: Family = {
  architectures: ['Phi3ForCausalLM'],
  modelTypes: ['phi3'],
  shape(config) {
    return readDecoderShape(config, {
      defaultEpsilon: 1e-5,
      windows: readWindows(config, readWindowSize(config, null), () => true),
      qkv: (sizes) => stackedQkv('model.layers.{layer}.self_attn.qkv_proj', sizes),
      gateUp: (ffnSize) => stackedGateUp('model.layers.{layer}.mlp.gate_up_proj', ffnSize),
    });
  },
};
