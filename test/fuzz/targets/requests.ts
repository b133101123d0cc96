/** What clients send: tensors in every form, forms, constraints of answers, images. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import protobuf from 'protobufjs';
import sharp from 'sharp';
import { decodedImage } from '../../../pipeline/pixels.js';
import { ServingError } from '../../../proto/errors.js';
import { protoFile } from '../../../proto/proto-file.js';
import { decodedBytes, messageShape } from '../../../server/grpc/decoded-bytes.js';
import { tensorsOfMessage } from '../../../server/grpc/oip-tensors.js';
import { formPartsOf } from '../../../server/http/bodies/form-fields.js';
import { readNpy, readNpz } from '../../../server/http/bodies/numpy-format.js';
import { tensorsOfJson } from '../../../server/http/bodies/tensor-json.js';
import type { Signature } from '../../../server/requests/signature.js';
import { constraintExpression } from '../../../server/text/constraint/constraint.js';
import type { SeededRandom } from '../../fixtures/seeded-random.js';
import { randomSchema } from '../../support/random-schemas.js';
import { repositoryRoot } from '../../support/repository-root.js';
import { type FuzzTarget, isOperating } from '../fuzz-target.js';
import { BRACKETS, type Json, mutatedBytes, mutatedJson, mutatedText } from '../mutations.js';

const golden = (name: string): Buffer =>
  readFileSync(path.join(repositoryRoot, 'test', 'golden', 'onnx-models', name));
const NPY = [golden('turned.npy')];
const NPZ = [golden('arrays.npz'), golden('compressed.npz')];

const SIGNATURE: Signature = {
  inputs: [
    { name: 'x', type: 'FP32', shape: [-1, 2] },
    { name: 'ids', type: 'INT64', shape: [-1, -1] },
    { name: 'text', type: 'BYTES', shape: [-1] },
    { name: 'flag', type: 'BOOL', shape: [1] },
  ],
  outputs: [],
};
const TENSORS: Json[] = [
  {
    inputs: {
      x: [
        [1, 2],
        [3, 4],
      ],
      ids: [[1, 2, 3]],
      text: ['a', 'b'],
      flag: [true],
    },
  },
  {
    inputs: [
      { name: 'x', shape: [2, 2], datatype: 'FP32', data: [1, 2, 3, 4] },
      { name: 'ids', shape: [1, 2], datatype: 'INT64', data: [1, 2], parameters: { a: 1 } },
    ],
  },
];

const tensorMessage = (name: string, datatype: string, shape: string[]) => ({
  name,
  datatype,
  shape,
  parameters: {},
  contents: null,
});
const MESSAGE = {
  model_name: 'm',
  model_version: '',
  id: '1',
  parameters: {},
  inputs: [tensorMessage('x', 'FP32', ['2', '2']), tensorMessage('text', 'BYTES', ['2'])],
  outputs: [],
};
const RAW = [Buffer.alloc(16, 1), Buffer.from([1, 0, 0, 0, 97, 2, 0, 0, 0, 98, 99])];

const INFER = protobuf.loadSync(protoFile('open_inference.proto')).lookupType('inference.ModelInferRequest');
const INFER_SHAPE = messageShape(INFER);
const INFER_MESSAGES = [
  { modelName: 'm', inputs: [{ name: 'x', datatype: 'FP32', shape: [2, 2] }], rawInputContents: RAW },
  {
    ...{ modelName: 'm', id: '1', outputs: [{ name: 'y' }], parameters: { a: { boolParam: true } } },
    inputs: [{ name: 'x', shape: [3], contents: { int64Contents: [1, 2, -3], bytesContents: [RAW[1]] } }],
  },
].map((message) => Buffer.from(INFER.encode(INFER.fromObject(message)).finish()));

/** As grpc-js refuses it: whatever the package throws. */
function decodedOrRefused(bytes: Uint8Array): Record<string, unknown[]> {
  try {
    return INFER.decode(bytes) as unknown as Record<string, unknown[]>;
  } catch (cause) {
    throw new ServingError('BAD_REQUEST', 'no message', { cause });
  }
}

const BOUNDARY = 'xYz';
const MULTIPART = Buffer.from(
  [
    `--${BOUNDARY}`,
    'Content-Disposition: form-data; name="data"',
    'Content-Type: application/json',
    '',
    '{"inputs": "a"}',
    `--${BOUNDARY}`,
    'Content-Disposition: form-data; name="file"; filename="a.bin"',
    '',
    'bytes',
    `--${BOUNDARY}--`,
    '',
  ].join('\r\n'),
);
const URLENCODED = Buffer.from('a=1&b=%C3%A9&model_name=x&inputs=once+upon&c=%00');

const PATTERNS = ['^[a-z]+$', '(ab|cd)*e?', '[0-9]{2,4}-\\d', '\\p{L}+', '(?:a|b){0,3}', '[^"\\\\]*'];
const PATTERN_WORDS = [
  ...BRACKETS,
  '{1000}',
  '{0,}',
  '*',
  '+',
  '?',
  '|',
  '^',
  '$',
  '\\',
  '\\b',
  '(?=',
  '(?<a>',
  '\\1',
  '-',
  '.',
  '\\u{1F600}',
];
const GRAMMAR = 'root ::= ("yes" | "no") ws number\nws ::= [ \\t]*\nnumber ::= [0-9]+ ("." [0-9]+)?\n';
const GRAMMAR_WORDS = ['::=', '|', '(', ')', '[', ']', '"', 'root', '\n', '{3}', '{,}', '#', '[^', '\\x'];

const image = (format: 'png' | 'jpeg' | 'webp' | 'gif' | 'tiff'): Promise<Buffer> =>
  sharp({ create: { width: 8, height: 6, channels: 3, background: '#808000' } })
    .toFormat(format)
    .toBuffer();
let images: Promise<Buffer[]> | null = null;

const NPY_HEADERS = [
  "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
  "{'descr': '<U3', 'fortran_order': False, 'shape': (2,), }",
  "{'descr': '|S4', 'fortran_order': True, 'shape': (), }",
];
const NPY_WORDS = [
  '<i8',
  '|b1',
  '<U0',
  '|S0',
  '|S999999',
  '<U999999',
  '(',
  ')',
  ',',
  "'",
  'True',
  '1000000000',
  '0',
  '2147483647',
  '9007199254740991',
];

/** Its header changed as text, its lengths right. */
function npyWithHeader(random: SeededRandom): Buffer {
  const header = Buffer.from(mutatedText(random.pick(NPY_HEADERS), random, NPY_WORDS));
  const head = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, 0, 0]);
  head.writeUInt16LE(Math.min(header.length, 0xffff), 8);
  return Buffer.concat([head, header, Buffer.alloc(random.pick([0, 4, 8, 24]), random.integer(0, 1) * 97)]);
}

export const REQUEST_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'npy',
    weight: 12,
    run: (random) => readNpy('x', random.next() < 0.5 ? npyWithHeader(random) : mutatedBytes(NPY, random)),
    isExpected: isOperating,
  },
  {
    name: 'npz',
    weight: 3,
    run: (random) => readNpz(mutatedBytes(NPZ, random), 2 ** 20),
    isExpected: isOperating,
  },
  {
    name: 'tensor-json',
    weight: 10,
    run: (random) => tensorsOfJson(mutatedJson(random.pick(TENSORS), random), SIGNATURE),
    isExpected: isOperating,
  },
  {
    name: 'oip-tensors',
    weight: 8,
    run(random) {
      const message = mutatedJson(MESSAGE as unknown as Json, random) as never as typeof MESSAGE;
      // What grpc-js hands on has the shape of the message whatever was sent: only its values are strangers'.
      const inputs = (Array.isArray(message?.inputs) ? message.inputs : []).map((one) => ({
        ...tensorMessage('x', 'FP32', ['1']),
        ...(typeof one?.name === 'string' && { name: one.name }),
        ...(typeof one?.datatype === 'string' && { datatype: one.datatype }),
        ...(Array.isArray(one?.shape) && { shape: one.shape.map((axis) => `${JSON.stringify(axis)}`) }),
      }));
      const raw = RAW.slice(0, random.integer(0, 2)).map((bytes) => mutatedBytes([bytes], random));
      tensorsOfMessage({ ...MESSAGE, inputs, raw_input_contents: raw });
    },
    isExpected: isOperating,
  },
  {
    name: 'grpc-message',
    weight: 15,
    run(random) {
      const bytes = mutatedBytes(INFER_MESSAGES, random);
      const taken = decodedBytes(INFER_SHAPE, bytes);
      if (taken < bytes.length) throw new TypeError('counted less than there is');
      const { inputs, outputs, rawInputContents } = decodedOrRefused(bytes);
      const least = 512 * (inputs!.length + outputs!.length) + 128 * rawInputContents!.length;
      if (taken < least) throw new TypeError(`counted ${taken}, but it has ${least}`);
    },
    isExpected: isOperating,
  },
  {
    name: 'form',
    weight: 4,
    run(random) {
      const isMultipart = random.next() < 0.7;
      const type = isMultipart
        ? `multipart/form-data; boundary=${BOUNDARY}`
        : 'application/x-www-form-urlencoded';
      return formPartsOf(
        mutatedBytes([isMultipart ? MULTIPART : URLENCODED], random),
        random.next() < 0.9 ? type : mutatedText(type, random),
      );
    },
    isExpected: isOperating,
  },
  {
    name: 'json-schema',
    weight: 3,
    run(random) {
      const schema = mutatedJson(randomSchema(random) as Json, random);
      return constraintExpression({ spec: { kind: 'json-schema', schema }, behind: null });
    },
    isExpected: isOperating,
  },
  {
    name: 'regex',
    weight: 3,
    run: (random) =>
      constraintExpression({
        spec: { kind: 'regex', pattern: mutatedText(random.pick(PATTERNS), random, PATTERN_WORDS) },
        behind: null,
      }),
    isExpected: isOperating,
  },
  {
    name: 'grammar',
    weight: 3,
    run: (random) =>
      constraintExpression({
        spec: { kind: 'grammar', source: mutatedText(GRAMMAR, random, GRAMMAR_WORDS) },
        behind: null,
      }),
    isExpected: isOperating,
  },
  {
    name: 'image',
    weight: 3,
    async run(random) {
      images ??= Promise.all((['png', 'jpeg', 'webp', 'gif', 'tiff'] as const).map(image));
      return decodedImage(mutatedBytes(await images, random));
    },
    isExpected: isOperating,
  },
];
