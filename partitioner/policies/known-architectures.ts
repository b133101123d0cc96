/**
 * Architectures that are known and that no family computes: never guessed by their tensors.
 *
 * In      config.json of a model that no family answers for
 * Out     why it is not computed here; null: nobody here has heard of it, and the automatic policy may look at its tensors
 * Why     two models may have the same tensors and another mathematics: ERNIE 4.5 and Helium rotate neighbouring pairs under
 *         Llama's names. Where the code of a name is public, a family is written from it, or nothing
 * Pure
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { CAUSAL_NAMES, IMAGE_NAMES, MASKED_NAMES, MODEL_TYPES } from './transformers-names.js';

/** What no shape can say yet, by the beginning of an architecture's name; the first that fits. */
const MISSING: readonly (readonly [RegExp, string])[] = [
  [
    /^(?:Mamba|FalconMamba|FalconH1|Jamba|Zamba|Bamba|NemotronH|GraniteMoeHybrid|RecurrentGemma|Rwkv|xLSTM)/,
    'state-space layers, which keep a running state instead of keys and values',
  ],
  [
    /^(?:Qwen3Next|Qwen3_5|Qwen4Exp|KimiLinear|OlmoHybrid|BailingHybrid|MiniMaxForCausalLM|MiniMaxText01|Lfm2|Lfm3|Zaya)/,
    'linear attention or convolutions beside attention, which keep a running state',
  ],
  [
    /^(?:DeepseekV32|DeepseekV4|GlmMoeDsa)/,
    'attention to the tokens that an indexer chooses, which has keys of its own',
  ],
  [/^LongcatFlash/, 'two attentions a layer, and experts that pass their input on'],
  [/^AXK/, "DeepSeek V3's block with a norm behind its experts"],
  [
    /^(?:ChatGLM|GLMFor)/,
    'GLM-4 under the names of its first code; the same weights are published as GlmForCausalLM',
  ],
  [
    /^Deberta(?!V2)/,
    'one tensor of queries, keys and values without biases of keys, and projections of distances of its own (the second version has a family)',
  ],
  [/^Baichuan|^BaiChuan/, 'one tensor of queries, keys and values, and ALiBi in the larger one'],
  [
    /^(?:Bart|MBart|BigBirdPegasus|Blenderbot|Marian|Mvp|PLBart|Pegasus|ProphetNet|Whisper|TrOCR|Musicgen|T5|MT5|UMT5|Udop)/,
    'a decoder that also reads an encoder',
  ],
  [/^(?:CTRL|OpenAIGPT|XLNet|XLM|XGLM|Reformer|CpmAnt|BioGpt|Git|Blt|Moshi)/, 'a block of its own'],
];

/** @returns why, as the end of a sentence; null: unknown */
export function whyNotGuessed(config: CheckpointConfig): string | null {
  const names = config.strings('architectures', []);
  const type = config.nullableString('model_type');
  for (const name of names) {
    const [, missing] = MISSING.find(([pattern]) => pattern.test(name)) ?? [];
    if (missing !== undefined) return `it has ${missing}: no family here computes that`;
    if (IMAGE_NAMES.has(name)) return 'it reads images, and no family here answers for the text part of it';
    if (MASKED_NAMES.has(name)) return 'it is an encoder that no family here computes';
    if (CAUSAL_NAMES.has(name)) return 'no family here computes it';
  }
  if (type === null || !MODEL_TYPES.has(type)) return null;
  return `model_type ${type} is known, but no family here answers to ${names[0] ?? 'it'}`;
}
