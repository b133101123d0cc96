/**
 * CodeGen: GPT-J's block; query, value and key in one tensor, in the four parts of its training's machine.
 *
 * Source  transformers: modeling_codegen.py (mp_num)
 */
import { type Family, readDecoderShape } from './decoder-shape.js';
import { partedQvk } from './fused-qkv.js';
import { gptjTraits } from './gptj.js';

const PARTS = 4;

export const family: Family = {
  architectures: ['CodeGenForCausalLM'],
  modelTypes: ['codegen'],
  shape(config) {
    if (config.positiveInteger('n_head') % PARTS !== 0)
      throw config.wrong('n_head', `a multiple of ${PARTS}`);
    return readDecoderShape(config, {
      ...gptjTraits(config),
      qkv: (sizes) => partedQvk('transformer.h.{layer}.attn.qkv_proj', sizes, PARTS),
    });
  },
};
