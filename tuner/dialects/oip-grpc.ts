/**
 * The Open Inference Protocol by gRPC: tensors by ModelInfer, text as Triton's vLLM backend takes it, streams by ModelStreamInfer.
 *
 * In      HOST:PORT, the model's name
 * Out     Answer; a stream's tokens are its responses
 * Limits  no TLS; messages of MAX_MESSAGE_BYTES
 * Errors  the status's name as the code
 * Source  proto/open_inference.proto
 */
import {
  type Client,
  type ClientDuplexStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoFile } from '../../proto/proto-file.js';
import { monotonicMs } from '../load/monotonic.js';
import { type Answer, type Dialect, failed, type Payload } from './dialect.js';

const MAX_MESSAGE_BYTES = 256 * 2 ** 20;

export interface OipOptions {
  /** HOST:PORT */
  address: string;
  model: string;
  stream: boolean;
  headers: Record<string, string>;
  parameters: Record<string, unknown>;
}

interface Call {
  on(event: 'error', listener: (error: { code?: number; details?: string }) => void): void;
  cancel(): void;
}
type Infer = (message: object, metadata: Metadata, done: (error: { code: number } | null) => void) => Call;
type StreamInfer = (metadata: Metadata) => ClientDuplexStream<object, { error_message: string }>;
type Stub = Client & { ModelInfer: Infer; ModelStreamInfer: StreamInfer };

export class OipGrpcDialect implements Dialect {
  readonly #options: OipOptions;
  readonly #stub: Stub;
  readonly #metadata = new Metadata();

  constructor(options: OipOptions) {
    this.#options = options;
    const definition = loadPackageDefinition(
      loadSync(protoFile('open_inference.proto'), { keepCase: true, longs: Number, defaults: true }),
    ) as unknown as { inference: { GRPCInferenceService: new (...given: unknown[]) => Stub } };
    this.#stub = new definition.inference.GRPCInferenceService(
      options.address,
      credentials.createInsecure(),
      {
        'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
        'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      },
    );
    for (const [name, value] of Object.entries(options.headers)) this.#metadata.set(name, value);
  }

  close(): void {
    this.#stub.close();
  }

  ask(payload: Payload, signal: AbortSignal): Promise<Answer> {
    if (payload.kind === 'bytes') return Promise.resolve(failed('NO_BYTES_IN_GRPC'));
    const isStream = payload.kind === 'text' && this.#options.stream;
    const message = this.#message(payload, isStream);
    return isStream ? this.#askStream(message, signal) : this.#askOnce(message, payload, signal);
  }

  #askOnce(message: object, payload: Payload, signal: AbortSignal): Promise<Answer> {
    return new Promise((resolve) => {
      const call = this.#stub.ModelInfer(message, this.#metadata, (error) => {
        signal.removeEventListener('abort', cancel);
        if (error) return resolve(failed(nameOf(error.code, signal)));
        const tokensOut = payload.kind === 'text' ? payload.maxNewTokens : null;
        resolve({ tokenTimesMs: [monotonicMs()], tokensIn: null, tokensOut, error: null });
      });
      const cancel = (): void => call.cancel();
      signal.addEventListener('abort', cancel);
    });
  }

  #askStream(message: object, signal: AbortSignal): Promise<Answer> {
    return new Promise((resolve) => {
      const tokenTimesMs: number[] = [];
      let failure: string | null = null;
      const call = this.#stub.ModelStreamInfer(this.#metadata);
      const cancel = (): void => call.cancel();
      const end = (error: string | null): void => {
        signal.removeEventListener('abort', cancel);
        const cause = error ?? failure ?? (tokenTimesMs.length === 0 ? 'EMPTY_STREAM' : null);
        resolve(
          cause === null
            ? { tokenTimesMs, tokensIn: null, tokensOut: tokenTimesMs.length, error: null }
            : failed(cause),
        );
      };
      signal.addEventListener('abort', cancel);
      call.on('data', ({ error_message: text }) => {
        if (text) failure = /\[([A-Z_]+)\]/.exec(text)?.[1] ?? 'STREAM_ERROR';
        else tokenTimesMs.push(monotonicMs());
      });
      call.once('error', (error: { code?: number }) => end(nameOf(error.code ?? 2, signal)));
      call.once('end', () => end(null));
      call.write(message);
      call.end();
    });
  }

  #message(payload: Exclude<Payload, { kind: 'bytes' }>, isStream: boolean): object {
    const { model, parameters } = this.#options;
    if (payload.kind === 'tensors') {
      return {
        model_name: model,
        inputs: payload.tensors.map(({ datatype, name, shape }) => ({ name, datatype, shape })),
        raw_input_contents: payload.tensors.map(({ bytes }) => bytes),
      };
    }
    const sampling = { max_tokens: payload.maxNewTokens, temperature: 0, ignore_eos: true, ...parameters };
    return {
      model_name: model,
      inputs: [
        { name: 'text_input', datatype: 'BYTES', shape: [1] },
        { name: 'stream', datatype: 'BOOL', shape: [1] },
        { name: 'sampling_parameters', datatype: 'BYTES', shape: [1] },
      ],
      raw_input_contents: [
        lengthAnd(String(payload.prompt)),
        Buffer.from([isStream ? 1 : 0]),
        lengthAnd(JSON.stringify(sampling)),
      ],
    };
  }
}

function lengthAnd(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function nameOf(code: number, signal: AbortSignal): string {
  if (signal.aborted) return typeof signal.reason === 'string' ? signal.reason : 'CLIENT_CANCELLED';
  return status[code] ?? `GRPC_${code}`;
}
