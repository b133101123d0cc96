/**
 * What a model takes, as the server says it: the Open Inference Protocol's metadata.
 *
 * In      the gRPC address of a server, a model's name
 * Out     its inputs; text models have `text_input`
 * Limits  LIMIT_MS
 * Errors  Error with the status
 */
import { type Client, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoFile } from '../../proto/proto-file.js';

const LIMIT_MS = 10_000;

export interface InputDescription {
  name: string;
  datatype: string;
  /** -1: varies. */
  shape: number[];
}

type Ask = (
  message: object,
  options: { deadline: number },
  done: (error: ServiceError | null, answer: { inputs: InputDescription[] }) => void,
) => void;

export async function modelInputs(address: string, model: string): Promise<InputDescription[]> {
  const definition = loadPackageDefinition(
    loadSync(protoFile('open_inference.proto'), { keepCase: true, longs: Number, defaults: true }),
  ) as unknown as {
    inference: { GRPCInferenceService: new (...given: unknown[]) => Client & { ModelMetadata: Ask } };
  };
  const stub = new definition.inference.GRPCInferenceService(address, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      stub.ModelMetadata({ name: model }, { deadline: Date.now() + LIMIT_MS }, (error, answer) => {
        if (error) reject(new Error(`${address} tells nothing of model ${model}: ${error.details}`));
        else resolve(answer.inputs);
      });
    });
  } finally {
    stub.close();
  }
}

export const isTextModel = (inputs: readonly InputDescription[]): boolean =>
  inputs.some(({ name }) => name === 'text_input');
