/**
 * GPT-Neo: GPT-2's block, scores that are not scaled, a window on every other layer.
 *
 * Source  transformers: configuration_gpt_neo.py, modeling_gpt_neo.py
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { GPT2_TRAITS } from './gpt2.js';

const MAX_LAYERS = 1024;

export const family: Family = {
  architectures: ['GPTNeoForCausalLM'],
  modelTypes: ['gpt_neo'],
  shape(config) {
    return readDecoderShape(config, {
      ...GPT2_TRAITS,
      keys: {
        numLayers: 'num_layers',
        numHeads: 'num_heads',
        activation: 'activation_function',
        normEpsilon: 'layer_norm_epsilon',
      },
      biases: { attentionOut: true, mlp: true },
      queryScale: () => 1,
      windows: readWindows(config),
      names: {
        ...GPT2_TRAITS.names,
        positions: 'transformer.wpe',
        ignored: [/\.attn\.attention\.(bias|masked_bias)$/],
      },
      layer: {
        attentionNorm: 'transformer.h.{layer}.ln_1',
        query: 'transformer.h.{layer}.attn.attention.q_proj',
        key: 'transformer.h.{layer}.attn.attention.k_proj',
        value: 'transformer.h.{layer}.attn.attention.v_proj',
        attentionOut: 'transformer.h.{layer}.attn.attention.out_proj',
        mlpNorm: 'transformer.h.{layer}.ln_2',
        up: 'transformer.h.{layer}.mlp.c_fc',
        down: 'transformer.h.{layer}.mlp.c_proj',
      },
    });
  },
};

/** `attention_types`: [[["global", "local"], 12]] is the pair twelve times. */
function readWindows(config: CheckpointConfig): (number | null)[] {
  const window = config.positiveInteger('window_size', 256);
  const numLayers = config.positiveInteger('num_layers');
  const types: unknown = config.raw.attention_types ?? [[['global', 'local'], 12]];
  const kinds = (Array.isArray(types) ? types : []).flatMap((entry: unknown) => {
    const [names, times]: unknown[] = Array.isArray(entry) ? entry : [];
    if (!Array.isArray(names) || typeof times !== 'number' || !(times <= MAX_LAYERS)) return [null];
    return Array.from({ length: times }, () => names as unknown[]).flat();
  });
  if (kinds.length !== numLayers || kinds.some((kind) => kind !== 'global' && kind !== 'local')) {
    throw config.wrong('attention_types', `"global" or "local" for each of ${numLayers} layers`);
  }
  return kinds.map((kind) => (kind === 'local' ? window : null));
}
