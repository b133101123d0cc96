/**
 * TorchServe's gRPC: its inference API with the Open Inference Protocol beside it, and its management API, each on an address of its own.
 *
 * In      what answers the calls (server/torchserve), the parts of the Open Inference Protocol
 * Out     two listeners
 * Limits  those of grpc-listener.ts; connections of an age, where the configuration says one
 * Errors  PERMISSION_DENIED for a token, as there; other statuses by HTTP's (STATUS_OF_HTTP)
 * Source  TorchServe's gRPC API
 */

import { readFileSync } from 'node:fs';
import type { ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { Metadata, type ServerDuplexStream, type StatusObject, status } from '@grpc/grpc-js';
import { fromJSON, loadSync } from '@grpc/proto-loader';
import protobuf from 'protobufjs';
import { ServingError } from '../../proto/errors.js';
import { protoFile } from '../../proto/proto-file.js';
import type { ListenAddress } from '../config/config.js';
import type { Target } from '../requests/target.js';
import {
  callController,
  checkCall,
  detailsOf,
  drained,
  keyNameOf,
  ownController,
  readerStopped,
  readOneAhead,
  targetOf,
  tellAnswered,
  timesOf,
} from './grpc-calls.js';
import { type GrpcServer, grpcListener } from './grpc-listener.js';
import type { GrpcServerOptions } from './grpc-server.js';
import { inferenceHandlers } from './inference-service.js';
import { PROTO_OPTIONS } from './oip-messages.js';
import { doneWith } from './received-bytes.js';

export interface PredictionsMessage {
  model_name: string;
  model_version: string;
  input: Readonly<Record<string, Buffer>>;
}

type Fields = Readonly<Record<string, string | number | boolean>>;

/** What answers TorchServe's calls, and how an error of it is told. */
export interface TorchServeCalls {
  /** JSON. */
  ping(): string;
  /** Pieces of the answer as they come. @throws ServingError */
  predict(
    message: PredictionsMessage,
    target: Target,
    streamed: boolean,
    client: AbortController,
  ): AsyncIterable<Uint8Array>;
  /** JSON of what is told. @throws ServingError */
  manage(call: ManagementCall, fields: Fields): Promise<string>;
  told(error: ServingError): { status: number; message: string };
}

export const MANAGEMENT_CALLS = [
  ...['DescribeModel', 'ListModels', 'RegisterModel'],
  ...['ScaleWorker', 'SetDefault', 'UnregisterModel'],
] as const;
export type ManagementCall =
  | 'DescribeModel'
  | 'ListModels'
  | 'RegisterModel'
  | 'ScaleWorker'
  | 'SetDefault'
  | 'UnregisterModel';

export interface TorchServeGrpcOptions extends Omit<GrpcServerOptions, 'address'> {
  calls: TorchServeCalls;
  inferenceAt: { address: ListenAddress; maxAgeMs: number | null; graceMs: number | null };
  managementAt: { address: ListenAddress; maxAgeMs: number | null; graceMs: number | null };
}

interface PredictionMessage {
  prediction: Uint8Array;
}

const STATUS_OF_HTTP: Readonly<Record<number, number>> = {
  400: status.INVALID_ARGUMENT,
  401: status.UNAUTHENTICATED,
  403: status.PERMISSION_DENIED,
  404: status.NOT_FOUND,
  409: status.ABORTED,
  413: status.RESOURCE_EXHAUSTED,
  416: status.OUT_OF_RANGE,
  429: status.RESOURCE_EXHAUSTED,
  499: status.CANCELLED,
  501: status.UNIMPLEMENTED,
  503: status.UNAVAILABLE,
  504: status.DEADLINE_EXCEEDED,
};

/** The same service in TorchServe's package. */
function torchServesOip() {
  const text = readFileSync(protoFile('open_inference.proto'), 'utf8');
  const renamed = text.replace('package inference;', 'package org.pytorch.serve.grpc.openinference;');
  const types = protobuf.parse(renamed, { keepCase: true }).root;
  return { definition: fromJSON(types.toJSON(), PROTO_OPTIONS), types };
}

function ownService(name: string) {
  const file = protoFile(name);
  return { definition: loadSync(file, PROTO_OPTIONS), types: protobuf.loadSync(file) };
}

export function createTorchServeServers(options: TorchServeGrpcOptions): GrpcServer[] {
  const { access, drainTimeoutMs, maxConnections, maxMessageBytes, stallLimitMs, tls = null } = options;
  let isDraining = false;
  const onDraining = (): void => {
    isDraining = true;
  };
  const most = maxConnections === undefined ? {} : { maxConnections };
  const shared = { access, drainTimeoutMs, maxMessageBytes, onDraining, stallLimitMs, tls, ...most };
  const refuseNew = (): void => {
    if (isDraining) throw new ServingError('SHUTTING_DOWN', 'The server is shutting down');
  };
  const parts = { ...options, isDraining: () => isDraining };
  return [
    grpcListener({
      ...{ ...shared, ...options.inferenceAt, key: 'grpc_inference_address' },
      services: [
        {
          name: 'org.pytorch.serve.grpc.inference.InferenceAPIsService',
          ...ownService('torchserve_inference.proto'),
          handlers: inferenceCalls(options, refuseNew),
        },
        {
          name: 'org.pytorch.serve.grpc.openinference.GRPCInferenceService',
          ...torchServesOip(),
          handlers: inferenceHandlers(parts),
        },
      ],
    }),
    grpcListener({
      ...{ ...shared, ...options.managementAt, key: 'grpc_management_address' },
      services: [
        {
          name: 'org.pytorch.serve.grpc.management.ManagementAPIsService',
          ...ownService('torchserve_management.proto'),
          handlers: managementCalls(options),
        },
      ],
    }),
  ];
}

type Answer<T> = (error: Partial<StatusObject> | null, value?: T) => void;
type Asked = ServerUnaryCall<PredictionsMessage, unknown> | ServerWritableStream<PredictionsMessage, unknown>;

function inferenceCalls(
  { access, calls, onAnswered, stallLimitMs }: TorchServeGrpcOptions,
  refuseNew: () => void,
) {
  const told = (error: unknown) => statusOf(calls, error, true);
  /** Pieces of one prediction. */
  async function* predict(
    call: Asked | ServerDuplexStream<PredictionsMessage, unknown>,
    client: AbortSignal,
    message: PredictionsMessage,
    streamed: boolean,
  ) {
    const key = checkCall(call, access, 'infer');
    refuseNew();
    if (message.model_name === '') throw new ServingError('BAD_REQUEST', 'Parameter model_name is required.');
    const target = targetOf(call, key, { ...message, id: '' });
    const end = access.limits.begin(key);
    const { own, leave } = ownController(client);
    const isOne = 'request' in call;
    const times = timesOf(isOne ? call : null, own.signal);
    try {
      yield* calls.predict(message, target, streamed, own);
    } finally {
      end();
      leave();
      tellAnswered(times, onAnswered);
    }
  }
  return {
    Ping: (call: ServerUnaryCall<object, unknown>, answer: Answer<{ health: string }>) => {
      try {
        checkCall(call, access, 'infer');
        answer(null, { health: calls.ping() });
      } catch (error) {
        answer(told(error));
      }
    },
    Predictions: (call: ServerUnaryCall<PredictionsMessage, unknown>, answer: Answer<PredictionMessage>) => {
      const run = async (): Promise<PredictionMessage> => {
        const { signal } = callController(call);
        const pieces: Uint8Array[] = [];
        for await (const piece of predict(call, signal, call.request, false)) pieces.push(piece);
        return { prediction: Buffer.concat(pieces) };
      };
      run().then(
        (value) => answer(null, value),
        (error: unknown) => answer(told(error)),
      );
    },
    StreamPredictions: (call: ServerWritableStream<PredictionsMessage, PredictionMessage>) => {
      const client = callController(call);
      const run = async (): Promise<void> => {
        for await (const prediction of predict(call, client.signal, call.request, true))
          await written(call, { prediction }, client.signal, stallLimitMs);
        call.end();
      };
      run().catch((error: unknown) => {
        if (!call.cancelled) call.emit('error', told(error));
      });
    },
    StreamPredictions2: (call: ServerDuplexStream<PredictionsMessage, PredictionMessage>) => {
      call.on('error', () => {});
      readOneAhead(call);
      const client = callController(call);
      const run = async (): Promise<void> => {
        // One after the other, as they were sent. An error must not destroy the call: it could not be told any more.
        const messages = call.iterator({ destroyOnReturn: false }) as AsyncIterable<PredictionsMessage>;
        for await (const message of messages) {
          for await (const prediction of predict(call, client.signal, message, true))
            await written(call, { prediction }, client.signal, stallLimitMs);
          doneWith(message);
        }
        call.end();
      };
      run().catch((error: unknown) => {
        if (!call.cancelled) call.emit('error', told(error));
      });
    },
  };
}

/** A reader that stops is waited for, until it leaves. @throws ServingError REQUEST_TIMEOUT: it has taken nothing for so long */
async function written(
  call:
    | ServerWritableStream<PredictionsMessage, PredictionMessage>
    | ServerDuplexStream<PredictionsMessage, PredictionMessage>,
  message: PredictionMessage,
  client: AbortSignal,
  stallLimitMs: number,
): Promise<void> {
  if (call.write(message) || call.cancelled) return;
  if (await drained(call, client, stallLimitMs)) return;
  throw readerStopped(stallLimitMs);
}

function managementCalls({
  access,
  audit,
  calls,
}: Pick<TorchServeGrpcOptions, 'access' | 'audit' | 'calls'>) {
  const handler =
    (name: ManagementCall) =>
    (call: ServerUnaryCall<Fields, unknown>, answer: Answer<{ msg: string }>): void => {
      const run = async (): Promise<string> => {
        checkCall(call, access, 'manage');
        return calls.manage(name, call.request);
      };
      const isChange = name !== 'DescribeModel' && name !== 'ListModels';
      const tell = (code: string): void => {
        if (!isChange) return;
        audit?.({
          ...{ key: keyNameOf(call, access), ip: call.getPeer(), method: name, code },
          model: String(call.request.model_name ?? ''),
        });
      };
      run().then(
        (msg) => {
          tell('OK');
          answer(null, { msg });
        },
        (error: unknown) => {
          tell(ServingError.from(error).code);
          answer(statusOf(calls, error, false));
        },
      );
    };
  return Object.fromEntries(MANAGEMENT_CALLS.map((name) => [name, handler(name as ManagementCall)]));
}

/** @param isPrediction what is not there is INTERNAL, as TorchServe says it of predictions */
function statusOf(calls: TorchServeCalls, thrown: unknown, isPrediction: boolean): Partial<StatusObject> {
  const error = ServingError.from(thrown);
  const { message, status: http } = calls.told(error);
  const metadata = new Metadata();
  metadata.set('error-code', error.code);
  return { code: codeOf(error, http, isPrediction), details: detailsOf(message), metadata };
}

function codeOf({ code }: ServingError, http: number, isPrediction: boolean): number {
  if (code === 'UNAUTHENTICATED' || code === 'FORBIDDEN' || code === 'METHOD_NOT_ALLOWED')
    return status.PERMISSION_DENIED;
  if (code === 'REQUEST_TIMEOUT') return status.DEADLINE_EXCEEDED;
  if (isPrediction && (http === 404 || code === 'BAD_REQUEST')) return status.INTERNAL;
  return STATUS_OF_HTTP[http] ?? (http < 500 ? status.FAILED_PRECONDITION : status.INTERNAL);
}
