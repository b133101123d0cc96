/**
 * Each family against the config classes of transformers (test/golden/list_config_keys.py): every key of a class is read, or known to
 * change nothing; the sizes are those that transformers takes; and what a config.json leaves out has here the value it has there.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Family } from '../../../partitioner/architectures/decoder-shape.js';
import { loadFamilies } from '../../../partitioner/architectures/registry.js';
import { CheckpointConfig } from '../../../partitioner/checkpoint/config-file.js';
import type { ModelShape } from '../../../partitioner/plan/model-shape.js';
import { isHarmless } from '../../../partitioner/policies/config-answers.js';
import { ServingError } from '../../../proto/errors.js';
import { goldenFolder } from '../../support/golden.js';

type Raw = Record<string, unknown>;

interface ConfigClass {
  modelType: string;
  sizes: Record<string, number>;
  keys: Raw;
}

interface Row {
  name: string;
  family: Family;
  config: ConfigClass;
}

/** What a class leaves open, or has as no published model does. */
const SAID: Readonly<Record<string, Raw>> = {
  DebertaV2ForMaskedLM: { relative_attention: true, share_att_key: true, pos_att_type: ['c2p', 'p2c'] },
  DeepseekV2ForCausalLM: { num_experts_per_tok: 6 },
  Dots1ForCausalLM: { n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 2 },
  Glm4MoeForCausalLM: { head_dim: 128 },
};

/** Keys that no family needs to read, by what they are. */
const ANSWERED: readonly (readonly [RegExp, string])[] = [
  [/^(bos|eos|cls|eod)_token_id$/, 'ids of tokens: read where texts end'],
  [/^(output_router_logits|router_aux_loss_coef|(router|input)_jitter_noise)$/, 'training of routers'],
  [/^layerdrop$|^initializer_cutoff_factor$|^embedding_initializer_range$/, 'training'],
  [/^(sparse_prediction|sparse_pred_ignore_index|decoder_bias|legacy)$/, 'heads that make no hidden state'],
  [/^deterministic_flash_attn$/, 'a kernel'],
  [/^(head_dim|qk_head_dim)$/, 'of latents: made of other keys'],
  [/^(num_nextn_predict_layers|num_mtp_layers)$/, 'layers that predict further tokens: ignored by name'],
  [/^_?sliding_window_pattern$|^no_rope_layer_interval$/, 'made a list of layers, which is read'],
  [/^sliding_window$/, 'read where use_sliding_window says so'],
  [/^attention_layers$/, 'made of attention_types'],
  [/^original_max_position_embeddings$/, 'read where positions are scaled'],
  [/^(n_group|topk_group)$/, 'read where topk_method says so'],
  [/^num_kv_heads$/, "of Falcon's second block alone"],
  [/^num_key_value_heads$/, 'made of multi_query, or the number of heads whatever it says'],
  [/^n_ctx$/, 'the length of the context once more'],
  [/^sinusoidal_pos_embds$/, 'how a table of positions was begun'],
  [/^pooler_(dropout|hidden_act|hidden_size)$/, "a classifier's"],
];

const { models } = JSON.parse(
  gunzipSync(readFileSync(path.join(goldenFolder(''), 'config-keys.json.gz'))).toString(),
) as { models: Record<string, ConfigClass> };

const families = await loadFamilies();
const rows = Object.entries(models).flatMap(([name, config]): Row[] => {
  const family = families.find(({ architectures }) => architectures.includes(name));
  return family === undefined ? [] : [{ name, family, config }];
});

const rawOf = ({ config, name }: Row): Raw => ({
  ...config.keys,
  ...SAID[name],
  architectures: [name],
  model_type: config.modelType,
});

/** Nobody asks of an encoder whether its head, which it has not, is the embedding. */
function shapeOf({ family }: Row, raw: Raw): ModelShape {
  const shape = family.shape(new CheckpointConfig(raw, null, ''));
  return shape.names.head === null ? { ...shape, tiedHead: false } : shape;
}

/** Notes the keys that are asked for by name. */
function recorded(raw: Raw): { raw: Raw; asked: Set<string | symbol> } {
  const asked = new Set<string | symbol>();
  const proxy = new Proxy(raw, {
    get: (target, key) => {
      asked.add(key);
      return Reflect.get(target, key);
    },
    getOwnPropertyDescriptor: (target, key) => {
      asked.add(key);
      return Reflect.getOwnPropertyDescriptor(target, key);
    },
  });
  return { raw: proxy, asked };
}

it('most families have a class in transformers', () => {
  expect(rows.length).toBeGreaterThan(60);
});

describe.each(rows.map((row) => [row.name, row] as const))('%s', (_, row) => {
  it('has the sizes of the class, and an answer to each of its keys', () => {
    const { asked, raw } = recorded(rawOf(row));
    const shape = shapeOf(row, raw);
    expect({
      hidden_size: shape.hiddenSize,
      num_attention_heads: shape.numHeads,
      num_hidden_layers: shape.numLayers,
      vocab_size: shape.vocabSize,
    }).toEqual(row.config.sizes);
    const unanswered = Object.keys(row.config.keys).filter(
      (key) => !asked.has(key) && !isHarmless(key) && !ANSWERED.some(([pattern]) => pattern.test(key)),
    );
    expect(unanswered).toEqual([]);
  });

  it('takes for a key that is left out what the class takes, or refuses', () => {
    const raw = rawOf(row);
    const whole = shapeOf(row, raw);
    const others = Object.keys(row.config.keys).filter((key) => {
      if (SAID[row.name]?.[key] !== undefined) return false;
      const { [key]: _left, ...rest } = raw;
      try {
        return !isDeepStrictEqual(shapeOf(row, rest), whole);
      } catch (error) {
        if (error instanceof ServingError) return false;
        throw error;
      }
    });
    expect(others).toEqual([]);
  });
});
