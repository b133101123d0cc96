/** Every kind of operator, by the name that packs use. */
import { IMAGE_KINDS } from './image-ops.js';
import { ONNX } from './model-ops.js';
import type { OpKind } from './op.js';
import { SCRIPT } from './script.js';
import { TENSOR_KINDS } from './tensor-ops.js';
import { TEXT_KINDS } from './text-ops.js';

export const OP_KINDS: ReadonlyMap<string, OpKind> = new Map(
  [SCRIPT, ONNX, ...TEXT_KINDS, ...TENSOR_KINDS, ...IMAGE_KINDS].map((kind) => [kind.name, kind]),
);
