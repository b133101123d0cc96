/**
 * HunYuan mixtures (A13B): HunYuan's block with experts, and one that every token visits.
 *
 * Source  transformers: configuration and modeling of hunyuan_v1_moe
 */
import { CheckpointConfig } from '../checkpoint/config-file.js';
import { type Family, readDecoderShape } from './decoder-shape.js';
import { readExperts, readLaterLayers } from './experts.js';
import { hunyuanTraits } from './hunyuan.js';
import { requireValue } from './known-keys.js';

const MLP = 'model.layers.{layer}.mlp';

/** Published ones say it for each layer, the same for all. */
function withOneNumber(config: CheckpointConfig, keys: readonly string[]): CheckpointConfig {
  const raw: Record<string, unknown> = { ...config.raw };
  for (const key of keys) {
    const value = raw[key];
    if (!Array.isArray(value)) continue;
    if (new Set(value).size !== 1) throw config.wrong(key, 'one number, or the same one for each layer');
    raw[key] = value[0];
  }
  return new CheckpointConfig(raw, config.generation, config.folder);
}

export const family: Family = {
  architectures: ['HunYuanMoEV1ForCausalLM'],
  modelTypes: ['hunyuan_v1_moe'],
  shape(given) {
    const config = withOneNumber(given, [
      'moe_topk',
      'num_experts',
      'moe_intermediate_size',
      'num_shared_expert',
    ]);
    // transformers reads neither: both are the sizes of the MLP there.
    requireValue(config, 'moe_intermediate_size', config.raw.intermediate_size);
    requireValue(config, 'num_shared_expert', 1);
    return readDecoderShape(config, {
      ...hunyuanTraits(config),
      honours: ['num_experts'],
      experts: readExperts(
        config,
        { count: 'num_experts', ffnSize: 'intermediate_size', perToken: 'moe_topk' },
        {
          normalised: true,
          sharedFfnSize: config.positiveInteger('intermediate_size'),
          layers: readLaterLayers(config, '', 0),
        },
      ),
      layer: {
        ...hunyuanTraits(config).layer,
        experts: {
          router: `${MLP}.gate.wg`,
          choiceBias: null,
          gate: `${MLP}.experts.{expert}.gate_proj`,
          up: `${MLP}.experts.{expert}.up_proj`,
          down: `${MLP}.experts.{expert}.down_proj`,
          shared: {
            router: null,
            gate: `${MLP}.shared_mlp.gate_proj`,
            up: `${MLP}.shared_mlp.up_proj`,
            down: `${MLP}.shared_mlp.down_proj`,
          },
        },
      },
    });
  },
};
