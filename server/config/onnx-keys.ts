/**
 * Keys of a model that ONNX Runtime serves as it is: session options under DJLServing's names.
 *
 * Source  DJL's ONNX Runtime engine: names and words of its options
 */
import { type KeyRow, modelKey } from './key-row.js';
import { integer, oneOf } from './value-types.js';

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
];
