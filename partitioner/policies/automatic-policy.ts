/**
 * The automatic policy: the common decoder (Llama's block in its usual spellings) recognised from tensor names and config keys.
 *
 * In      config.json, names and shapes of the checkpoint's tensors
 * Out     an InjectionPolicy with what was recognised, and what had to be assumed because no checkpoint shows it
 * Errors  ServingError CHECKPOINT_INVALID naming what was not recognised: nothing is guessed. A tensor without a role and a key
 *         without a meaning are refused here or by policy-shape.ts and open-model.ts
 * Why so narrow  what two models compute differently under the same names is refused: fused tensors (two layouts in use), one
 *         norm a layer, norms after the branches, gated GELU (Gemma's sign: 1 + weight, scaled embedding)
 * Pure
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { checkpointError } from '../checkpoint/json-file.js';
import type { TensorInfo } from '../checkpoint/tensor-source.js';
import { type InjectionPolicy, POLICY_FILE } from './injection-policy.js';
import { type LayerTensors, layerTensors } from './layer-tensors.js';

export interface AutomaticPolicy {
  policy: InjectionPolicy;
  /** One line each: `layers: model.layers.{layer}, 22`. */
  recognised: readonly string[];
  assumed: readonly string[];
}

/** The last part of a linear's name in the checkpoints in use. */
const LINEARS = {
  query: ['q_proj', 'wq', 'query', 'query_proj', 'q'],
  key: ['k_proj', 'wk', 'key', 'key_proj', 'k'],
  value: ['v_proj', 'wv', 'value', 'value_proj', 'v'],
  attentionOut: ['o_proj', 'wo', 'out_proj', 'dense', 'o', 'c_proj'],
  gate: ['gate_proj', 'w1', 'wi_0'],
  up: ['up_proj', 'w3', 'wi_1', 'fc1', 'c_fc', 'fc_in'],
  down: ['down_proj', 'w2', 'fc2', 'c_proj', 'fc_out'],
} as const;

const NORMS = {
  attention: ['input_layernorm', 'attention_norm', 'attn_norm', 'ln_1', 'norm1', 'ln1'],
  mlp: ['post_attention_layernorm', 'ffn_norm', 'mlp_norm', 'ln_2', 'norm2', 'ln2'],
  query: ['q_norm'],
  key: ['k_norm'],
} as const;

const OUTSIDE = {
  embedding: ['embed_tokens', 'tok_embeddings', 'wte', 'word_embeddings', 'embed_in'],
  finalNorm: ['norm', 'ln_f', 'final_layernorm', 'final_layer_norm'],
  head: ['lm_head', 'output', 'embed_out'],
} as const;

const CONFIG_KEYS = {
  hidden_size: ['hidden_size', 'n_embd', 'd_model', 'dim'],
  num_hidden_layers: ['num_hidden_layers', 'n_layer', 'n_layers', 'num_layers'],
  num_attention_heads: ['num_attention_heads', 'n_head', 'n_heads', 'num_heads'],
  intermediate_size: ['intermediate_size', 'ffn_dim', 'n_inner', 'ffn_hidden_size'],
  max_position_embeddings: ['max_position_embeddings', 'n_positions', 'max_seq_len', 'seq_length'],
  hidden_act: ['hidden_act', 'activation_function', 'activation'],
  norm_eps: ['rms_norm_eps', 'layer_norm_eps', 'layer_norm_epsilon', 'norm_epsilon'],
} as const;

/** A gate multiplied by this is Llama's; by another it is a family that differs in more than that. */
const GATED_ACTIVATIONS = ['silu', 'swish'];

const ASSUMED = [
  'queries and keys are rotated in halves, not in neighbouring pairs',
  'norms multiply by their weights as stored, and head norms come before the rotation',
  'embedding, residual stream and logits are not scaled beyond what config.json says',
  'a token sees itself and what is before it',
];

/** @throws ServingError CHECKPOINT_INVALID */
export function automaticPolicy(
  config: CheckpointConfig,
  tensors: ReadonlyMap<string, TensorInfo>,
): AutomaticPolicy {
  const found = layerTensors(tensors, (why) => notRecognised(config, why));
  const recogniser = new Recogniser(config, found);
  return recogniser.policy();
}

class Recogniser {
  readonly #recognised: string[] = [];

  readonly #config: CheckpointConfig;
  readonly #tensors: LayerTensors;

  constructor(config: CheckpointConfig, tensors: LayerTensors) {
    this.#config = config;
    this.#tensors = tensors;
  }

  policy(): AutomaticPolicy {
    const { prefix, numLayers } = this.#tensors;
    this.#recognised.push(`layers: ${prefix}, ${numLayers} of them`);
    const keys = this.#configKeys();
    if (this.#config.positiveInteger(keys.num_hidden_layers) !== numLayers) {
      throw this.#config.wrong(keys.num_hidden_layers, `${numLayers}, as many as the checkpoint has`);
    }
    const linears = this.#linears();
    const norms = this.#norms();
    this.#checkWindows();
    const layer = this.#tensors.layer;
    const norm = this.#normKind(norms.attention, keys.norm_eps);
    const outside = {
      embedding: this.#outside('embedding', OUTSIDE.embedding),
      final: this.#outside('final norm', OUTSIDE.finalNorm),
      head: this.#head(),
    };
    const hasBias = (...names: readonly (string | undefined)[]): boolean => this.#hasBias(layer, names);
    const policy: InjectionPolicy = {
      layers: prefix,
      column_parallel: {
        query: linears.query,
        key: linears.key,
        value: linears.value,
        ...(linears.gate === undefined ? {} : { gate: linears.gate }),
        up: linears.up,
      },
      row_parallel: { attention_out: linears.attentionOut, down: linears.down },
      norms: {
        attention: norms.attention,
        mlp: norms.mlp,
        ...(norms.query === undefined || norms.key === undefined
          ? {}
          : { query: norms.query, key: norms.key }),
        final: outside.final,
      },
      embedding: outside.embedding,
      head: outside.head,
      block: {
        norm,
        ...(norms.query === undefined ? {} : { head_norm: 'per_head' as const }),
        residual: 'sequential',
        positions: 'rope_halves',
        biases: {
          query_key_value: hasBias(linears.query, linears.key, linears.value),
          attention_out: hasBias(linears.attentionOut),
          mlp: hasBias(linears.gate, linears.up, linears.down),
          head: this.#tensors.outside.has(`${outside.head}.bias`),
        },
      },
      config_keys: keys,
      ignored_tensors: ['*.rotary_emb.inv_freq'],
    };
    this.#checkActivation(keys.hidden_act, linears.gate !== undefined);
    this.#recognised.push(`biases: ${biasWords(policy.block.biases)}`);
    return { policy, recognised: this.#recognised, assumed: ASSUMED };
  }

  #configKeys(): Record<keyof typeof CONFIG_KEYS, string> {
    const keys = {} as Record<keyof typeof CONFIG_KEYS, string>;
    for (const [meaning, spellings] of Object.entries(CONFIG_KEYS)) {
      const there = spellings.filter((key) => this.#config.has(key));
      const [key] = there;
      if (key === undefined || there.length > 1) {
        throw this.#no(
          there.length > 1
            ? `config.json has ${there.join(' and ')}, which mean the same`
            : `config.json has none of ${spellings.join(', ')}`,
        );
      }
      keys[meaning as keyof typeof CONFIG_KEYS] = key;
    }
    this.#recognised.push(`sizes: ${Object.values(keys).join(', ')}`);
    return keys;
  }

  #linears() {
    const find = (
      role: keyof typeof LINEARS,
      among: (name: string) => boolean = () => true,
    ): string | undefined => this.#oneOf(role, LINEARS[role], among);
    const query = find('query');
    const key = find('key');
    const value = find('value');
    if (query === undefined || key === undefined || value === undefined) {
      throw this.#no(
        'no query, key and value of their own in a layer (a fused tensor has two layouts in use, which its name does not tell)',
      );
    }
    const attention = parentOf(query);
    const isAttention = (name: string): boolean => parentOf(name) === attention;
    const attentionOut = find('attentionOut', isAttention);
    const gate = find('gate', (name) => !isAttention(name));
    const up = find('up', (name) => !isAttention(name));
    const down = find('down', (name) => !isAttention(name));
    if (attentionOut === undefined) throw this.#no(`no output projection beside ${query}`);
    if (up === undefined || down === undefined) throw this.#no('no MLP of up and down in a layer');
    const linears = { query, key, value, attentionOut, gate, up, down };
    const list = Object.entries(linears).flatMap(([role, name]) =>
      name === undefined ? [] : [`${role} ${name}`],
    );
    this.#recognised.push(`linears: ${list.join(', ')}`);
    return linears;
  }

  #norms() {
    const attention = this.#oneOf('attention norm', NORMS.attention);
    const mlp = this.#oneOf('MLP norm', NORMS.mlp);
    if (attention === undefined || mlp === undefined) {
      throw this.#no('a layer has not the two norms before attention and before the MLP');
    }
    const query = this.#oneOf('query norm', NORMS.query);
    const key = this.#oneOf('key norm', NORMS.key);
    if ((query === undefined) !== (key === undefined)) throw this.#no('only one of query and key has a norm');
    const heads = query === undefined ? '' : `, per head ${query}, ${key}`;
    this.#recognised.push(`norms: attention ${attention}, MLP ${mlp}${heads}`);
    return { attention, mlp, query, key };
  }

  #normKind(attentionNorm: string, epsilonKey: string): 'rms' | 'layer' {
    const hasBias = this.#tensors.layer.has(`${attentionNorm}.bias`);
    if ((epsilonKey === 'rms_norm_eps') === hasBias) {
      throw this.#no(
        `${epsilonKey} and norms ${hasBias ? 'with' : 'without'} biases: neither RMS norms nor layer norms`,
      );
    }
    this.#recognised.push(`norm kind: ${hasBias ? 'layer norm' : 'RMS'} by ${epsilonKey}`);
    return hasBias ? 'layer' : 'rms';
  }

  /** A checkpoint without a head of its own must say that it is tied. */
  #head(): string {
    const isTied = this.#config.boolean('tie_word_embeddings', false);
    const name = this.#oneOutside(OUTSIDE.head);
    if (name === undefined && !isTied) throw this.#no('no head, and tie_word_embeddings is not true');
    this.#recognised.push(`head: ${isTied ? 'tied to the embedding' : name}`);
    return name ?? 'lm_head';
  }

  #outside(role: string, spellings: readonly string[]): string {
    const name = this.#oneOutside(spellings);
    if (name === undefined) throw this.#no(`no ${role} (${spellings.join(', ')})`);
    this.#recognised.push(`${role}: ${name}`);
    return name;
  }

  #oneOutside(spellings: readonly string[]): string | undefined {
    return this.#only(matching(this.#tensors.outside, spellings));
  }

  #oneOf(
    role: string,
    spellings: readonly string[],
    among: (name: string) => boolean = () => true,
  ): string | undefined {
    return this.#only(matching(this.#tensors.layer, spellings).filter(among), role);
  }

  #only(names: readonly string[], role = 'role'): string | undefined {
    if (names.length > 1) throw this.#no(`${names.slice(0, 3).join(' and ')} could each be the ${role}`);
    return names[0];
  }

  /** All or none of them. */
  #hasBias(layer: ReadonlyMap<string, unknown>, names: readonly (string | undefined)[]): boolean {
    const linears = names.filter((name) => name !== undefined);
    const withBias = linears.filter((name) => layer.has(`${name}.bias`));
    if (withBias.length > 0 && withBias.length < linears.length) {
      throw this.#no(`only ${withBias.join(', ')} of ${linears.join(', ')} has a bias`);
    }
    return withBias.length > 0;
  }

  /** A window that only some layers have is a window of all under the same keys (CWM, Mistral). */
  #checkWindows(): void {
    const config = this.#config;
    if (!config.has('sliding_window') || config.raw.sliding_window === 0 || config.has('layer_types')) return;
    if (config.has('use_sliding_window')) return;
    throw this.#no(
      `sliding_window is ${config.raw.sliding_window}, and neither layer_types nor use_sliding_window says which layers have it`,
    );
  }

  #checkActivation(key: string, isGated: boolean): void {
    const name = this.#config.string(key);
    if (isGated && !GATED_ACTIVATIONS.includes(name)) {
      throw this.#no(
        `a gate with ${key} "${name}": of the gated families only those with silu are alike in all else`,
      );
    }
    this.#recognised.push(`MLP: ${isGated ? 'gated, ' : ''}${name}`);
  }

  #no(what: string): Error {
    return notRecognised(this.#config, what, this.#recognised);
  }
}

function notRecognised(config: CheckpointConfig, what: string, recognised: readonly string[] = []): Error {
  const name = config.strings('architectures', [])[0] ?? config.string('model_type', 'this model');
  return checkpointError(
    config.folder,
    `${name} is no known family, and the automatic policy does not recognise it: ${what}. ` +
      `Recognised: ${recognised.join('; ') || 'nothing'}. ${POLICY_FILE} in the folder can say how it is built`,
  );
}

const parentOf = (name: string): string => name.split('.').slice(0, -1).join('.');

/** Stems whose last part is one of these. */
function matching(tensors: ReadonlyMap<string, unknown>, spellings: readonly string[]): string[] {
  return [...tensors.keys()]
    .filter((name) => name.endsWith('.weight'))
    .map((name) => name.slice(0, -'.weight'.length))
    .filter((stem) => spellings.includes(stem.split('.').at(-1) ?? ''));
}

function biasWords(biases: InjectionPolicy['block']['biases']): string {
  const words = Object.entries(biases).flatMap(([where, has]) => (has ? [where] : []));
  return words.length === 0 ? 'none' : words.join(', ');
}
