/** A small SentencePiece model, as its protobuf's bytes. */
const field = (number: number, kind: number, ...bytes: Uint8Array[]): Buffer => {
  const tag = number * 8 + kind;
  const head = tag < 128 ? [tag] : [(tag & 0x7f) | 0x80, tag >> 7];
  return Buffer.concat([Buffer.from(head), ...bytes]);
};
const sized = (number: number, content: Uint8Array): Buffer =>
  field(
    number,
    2,
    Buffer.from(
      content.length < 128 ? [content.length] : [(content.length & 0x7f) | 0x80, content.length >> 7],
    ),
    content,
  );
const varint = (number: number, value: number): Buffer => field(number, 0, Buffer.from([value]));

function piece(text: string, score: number, type: number): Buffer {
  const float = Buffer.alloc(4);
  float.writeFloatLE(score);
  return sized(1, Buffer.concat([sized(1, Buffer.from(text)), field(2, 5, float), varint(3, type)]));
}

export function sentencePieceBytes(kind: 'unigram' | 'bpe'): Buffer {
  const words = ['▁', 'a', 'b', 't', 'h', 'e', 'c', '▁t', '▁the', 'at', '▁c', 'é'];
  return Buffer.concat([
    piece('<unk>', 0, 2),
    piece('<s>', 0, 3),
    piece('</s>', 0, 3),
    ...words.map((text, at) => piece(text, -at, 1)),
    ...Array.from({ length: 256 }, (_, byte) =>
      piece(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, 0, 6),
    ),
    sized(2, Buffer.concat([varint(3, kind === 'unigram' ? 1 : 2), field(35, 0, Buffer.from([1]))])),
    sized(3, Buffer.concat([varint(3, 1), varint(4, 1), varint(5, 1)])),
  ]);
}
