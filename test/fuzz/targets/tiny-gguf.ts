/** Two whole models of a few hundred weights in GGUF, one with each kind of tokenizer. */
import { type FloatTensor, ggufBytes, type MetadataValue } from '../../support/gguf-bytes.js';

const HIDDEN = 8;
const FFN = 12;

function tensors(vocabulary: number): FloatTensor[] {
  const shapes: Record<string, number[]> = {
    'token_embd.weight': [vocabulary, HIDDEN],
    'output_norm.weight': [HIDDEN],
    'blk.0.attn_norm.weight': [HIDDEN],
    'blk.0.attn_q.weight': [HIDDEN, HIDDEN],
    'blk.0.attn_k.weight': [HIDDEN / 2, HIDDEN],
    'blk.0.attn_v.weight': [HIDDEN / 2, HIDDEN],
    'blk.0.attn_output.weight': [HIDDEN, HIDDEN],
    'blk.0.ffn_norm.weight': [HIDDEN],
    'blk.0.ffn_gate.weight': [FFN, HIDDEN],
    'blk.0.ffn_up.weight': [FFN, HIDDEN],
    'blk.0.ffn_down.weight': [HIDDEN, FFN],
    'rope_freqs.weight': [2],
  };
  return Object.entries(shapes).map(([name, shape]) => ({
    name,
    shape,
    values: new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(1),
  }));
}

const MODEL: Record<string, MetadataValue> = {
  'general.architecture': 'llama',
  'llama.context_length': 64,
  'llama.embedding_length': HIDDEN,
  'llama.block_count': 1,
  'llama.feed_forward_length': FFN,
  'llama.attention.head_count': 2,
  'llama.attention.head_count_kv': 1,
  'llama.attention.layer_norm_rms_epsilon': 0.001,
  'llama.rope.freq_base': 10_000.5,
  'tokenizer.ggml.bos_token_id': 0,
  'tokenizer.ggml.eos_token_id': 1,
  'tokenizer.chat_template': '{{ bos_token }}',
};

const VOCABULARY: Record<string, MetadataValue> = {
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'llama-bpe',
  'tokenizer.ggml.tokens': ['<s>', '</s>', 't', 'h', 'e', 'th'],
  'tokenizer.ggml.token_type': [3, 3, 1, 1, 1, 1],
  'tokenizer.ggml.merges': ['t h'],
};

let made: Buffer[] | undefined;
let parts: [Buffer, Buffer] | undefined;

/** One of them in two files. */
export function tinyGgufParts(): [Buffer, Buffer] {
  const all = tensors(6);
  const place = (no: number) => ({ 'split.no': no, 'split.count': 2, 'split.tensors.count': all.length });
  parts ??= [
    ggufBytes({ ...MODEL, ...VOCABULARY, ...place(0) }, all.slice(0, 5)),
    ggufBytes(place(1), all.slice(5)),
  ];
  return parts;
}

export function tinyGgufs(): Buffer[] {
  made ??= [
    ggufBytes(
      {
        ...MODEL,
        ...VOCABULARY,
      },
      tensors(6),
    ),
    ggufBytes(
      {
        ...MODEL,
        'tokenizer.ggml.model': 'llama',
        'tokenizer.ggml.tokens': ['<s>', '</s>', '<unk>', '▁', 't', 'h', 'e', 'th'],
        'tokenizer.ggml.token_type': [3, 3, 2, 1, 1, 1, 1, 1],
        'tokenizer.ggml.scores': [0, 0, 0, -1, -2, -3, -4, -0.5],
      },
      tensors(8),
    ),
  ];
  return made;
}
