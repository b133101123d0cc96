/**
 * An ONNX model as an operator.
 *
 * In      tensors, in the order of the model's inputs
 * Out     the tensor of its only output; of several, an object by their names
 * Errors  ServingError BAD_REQUEST: not tensors, or not so many; what ONNX Runtime says
 * Source  onnxruntime-node, InferenceSession
 */
import { ServingError } from '../proto/errors.js';
import { makeOp, type OpKind } from './op.js';
import { Tensor, type TensorData, type TensorKind, type Value } from './pipeline-value.js';
import type { ResourceFile } from './resource-file.js';
import type { Op } from './tracing.js';

const KINDS: readonly string[] = ['bool', 'uint8', 'int8', 'int32', 'int64', 'float32', 'float64'];
const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

export const ONNX: OpKind = {
  name: 'model.onnx@1',
  // Sums are in another order on another processor.
  isExact: false,
  async make({ threads }, files) {
    const runtime = await import('onnxruntime-node');
    const session = await runtime.InferenceSession.create(files[0]!.path, {
      executionProviders: ['cpu'],
      intraOpNumThreads: threads as number,
      logSeverityLevel: 3,
    });
    return async (...args) => {
      if (args.length !== session.inputNames.length)
        throw bad(`the model takes ${session.inputNames.join(', ')}, not ${args.length} tensors`);
      const feeds = Object.fromEntries(
        args.map((one, index) => {
          if (!(one instanceof Tensor)) throw bad(`${session.inputNames[index]} must be a tensor`);
          return [session.inputNames[index]!, new runtime.Tensor(one.kind, one.data as never, one.shape)];
        }),
      );
      const outputs = Object.entries(await session.run(feeds)).map(([name, value]): [string, Value] => {
        if (!(value instanceof runtime.Tensor) || !KINDS.includes(value.type))
          throw bad(`output ${name} is nothing that a pipeline knows`);
        return [
          name,
          new Tensor(value.type as TensorKind, [...value.dims], value.data as unknown as TensorData),
        ];
      });
      return outputs.length === 1 ? outputs[0]![1] : Object.fromEntries(outputs);
    };
  },
};

export const model = {
  /** @param threads of ONNX Runtime */
  onnx: (given: ResourceFile, threads = 1): Op => makeOp(ONNX, { threads }, [given]),
};
