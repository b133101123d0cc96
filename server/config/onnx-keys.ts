/**
 * Keys of a model that ONNX Runtime serves as it is: session options under DJLServing's names.
 *
 * Source  DJL's ONNX Runtime engine: names and words of its options
 */
import { type KeyRow, modelKey } from './key-row.js';
import { integer, oneOf, type ValueType } from './value-types.js';

/** `input_ids:0,attention_mask:0` */
function padValues(): ValueType<Readonly<Record<string, number>> | null> {
  return {
    expects: 'inputs with their values, NAME:VALUE with commas',
    parse(given) {
      const entries = given.split(',').map((one) => /^\s*([^:,]+):(-?\d{1,9})\s*$/.exec(one));
      if (given !== '' && entries.includes(null)) return { problem: true };
      return {
        value: Object.fromEntries(entries.flatMap((one) => (one ? [[one[1]!, Number(one[2])]] : []))),
      };
    },
  };
}

export const ONNX_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.interOpNumThreads',
    'interOpThreads',
    integer(1, 1024),
    1,
    'threads that run nodes of an ONNX model beside each other; used with option.executionMode=PARALLEL',
  ),
  modelKey(
    'option.executionMode',
    'executionMode',
    oneOf('SEQUENTIAL', 'PARALLEL'),
    'SEQUENTIAL',
    "whether nodes of an ONNX model that do not need each other's answers run at the same time",
  ),
  modelKey(
    'option.optLevel',
    'optLevel',
    oneOf('NO_OPT', 'BASIC_OPT', 'EXTENDED_OPT', 'ALL_OPT'),
    'ALL_OPT',
    'how far ONNX Runtime rewrites the graph of an ONNX model as it loads',
  ),
  modelKey(
    'option.onnx_memory_mb',
    'onnxMemoryMb',
    integer(0, 16_777_216, 'MiB'),
    0,
    "memory of an ONNX model's process at most; a request that needs more is refused (ours); 0: no limit of its own",
  ),
  modelKey(
    'option.pad_inputs',
    'padInputs',
    padValues(),
    null,
    'inputs of an ONNX model that are filled up with a value, so that requests of different lengths run together; axes belong together by their names in the file (ours)',
  ),
];
