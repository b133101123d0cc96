/** Small tokenizer.json contents, one a decoder in use, whose vocabularies hold every byte: any id sequence is possible. */

const SPECIAL = ['<s>', '</s>'];
const WORDS = ['▁', '▁the', '▁cat', 's', 'at', '▁▁', 'é', '▁ö', '日', '本', '😀', 'ab', '\ufffd'];

function addedTokens(): unknown[] {
  return SPECIAL.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
}

function vocabulary(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

/** Llama 2's kind: spaces as ▁, unknown characters as byte tokens, the first space stripped. */
export function sentencePieceJson(): Record<string, unknown> {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  return {
    version: '1.0',
    added_tokens: addedTokens(),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<s>',
      byte_fallback: true,
      vocab: vocabulary([...SPECIAL, ...bytes, ...WORDS]),
      merges: [],
    },
  };
}

/** T5's and early Llama's kind: ▁ before words, a Metaspace decoder. */
export function metaspaceJson(): Record<string, unknown> {
  return {
    version: '1.0',
    added_tokens: addedTokens(),
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    post_processor: null,
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    model: { type: 'BPE', unk_token: '<s>', vocab: vocabulary([...SPECIAL, ...WORDS]), merges: [] },
  };
}
