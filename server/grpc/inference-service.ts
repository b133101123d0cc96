/**
 * The Open Inference Protocol's calls: tensors for ONNX models, text for language models; and the repository's.
 *
 * In      messages of proto/open_inference.proto
 * Out     answers of the work load manager; a stream's responses as they come, told apart by their request's id
 * Limits  MAX_STREAM_REQUESTS of one stream at once, and no more than begin below MAX_STREAM_BYTES; a reader that stops holds its own requests alone: no event is read for it meanwhile, and
 *         after chunked_read_timeout its requests end
 * Errors  a unary call: the table's gRPC status; in a stream: error_message of a response, and the stream goes on, as Triton does
 * Source  Open Inference Protocol v2; Triton's ModelStreamInfer: with triton_enable_empty_final_response a last, empty response says that
 *         a request is done; triton_final_response says so in every response
 */
import path from 'node:path';
import type { Metadata, ServerDuplexStream, ServerUnaryCall, StatusObject } from '@grpc/grpc-js';
import { ServingError } from '../../proto/errors.js';
import type { AccessControl } from '../access/access-control.js';
import type { Scope } from '../access/access-key.js';
import type { FinishEvent } from '../requests/job-events.js';
import type { ManagementService } from '../requests/management.js';
import {
  configurationOf,
  type ModelCounts,
  meantVersion,
  metadataOf,
  statisticsOf,
} from '../requests/model-facts.js';
import type { NamedTensor } from '../requests/predict-request.js';
import { withVersion } from '../requests/request-control.js';
import { type TimeParts, timedService } from '../requests/request-times.js';
import type { InferenceService, ModelStatus } from '../requests/service.js';
import type { Target } from '../requests/target.js';
import { inferTensors } from '../requests/tensor-inference.js';
import { stringOutput, textInference } from '../requests/text-inference.js';
import { TextOutputs } from '../requests/text-outputs.js';
import {
  callController,
  checkCall,
  drained,
  headersOf,
  keyNameOf,
  ownController,
  readerStopped,
  readOneAhead,
  statusOf,
  targetOf,
  tellAnswered,
  timesOf,
  timingOf,
} from './grpc-calls.js';
import type { InferRequestMessage, InferResponseMessage } from './oip-messages.js';
import { outputsOf, tensorsOfMessage } from './oip-tensors.js';
import { valuesOf } from './parameter-values.js';
import { bytesOfMessage, doneWith } from './received-bytes.js';

export interface GrpcParts {
  service: InferenceService;
  management: ManagementService;
  access: AccessControl;
  version: string;
  modelStore: string;
  /** Hears of each call that changes the server, done or refused. */
  audit?(call: { key: string | null; ip: string; method: string; model: string; code: string }): void;
  /** Hears where the time of each request went that a model was asked for. */
  onAnswered?(times: TimeParts): void;
  /** What is counted of each model; absent: nothing. */
  statistics?(): readonly ModelCounts[];
  /** No new requests. */
  isDraining: () => boolean;
  /** A reader of a stream that takes nothing for so long is given up. */
  stallLimitMs: number;
}

type Unary<Q, A> = (
  call: ServerUnaryCall<Q, A>,
  answer: (error: unknown, value?: A, trailer?: Metadata) => void,
) => void;
type Named = { name: string; version: string };
type Stream = ServerDuplexStream<
  InferRequestMessage,
  { error_message: string; infer_response?: InferResponseMessage }
>;

export const MAX_STREAM_REQUESTS = 128;
export const MAX_STREAM_BYTES = 16 * 1024 * 1024;
const MODEL_STATES = { READY: 'READY', PENDING: 'LOADING', FAILED: 'UNAVAILABLE' } as const;

export function inferenceHandlers(parts: GrpcParts) {
  const { access, management, modelStore, version } = parts;
  const service = timedService(parts.service);
  const trailers = new WeakMap<object, Metadata>();

  const unary =
    <Q, A>(
      scope: Scope | null,
      act: (request: Q, call: ServerUnaryCall<Q, A>) => A | Promise<A>,
    ): Unary<Q, A> =>
    (call, answer) => {
      const run = async (): Promise<A> => {
        if (scope !== null) checkCall(call, access, scope);
        return act(call.request, call);
      };
      run().then(
        (value) => answer(null, value, trailers.get(call)),
        (error: unknown) => answer(statusOf(error)),
      );
    };

  /** A call that changes the server. */
  const audited = (method: string, act: (request: { model_name: string }) => Promise<object>) => {
    const run = unary<{ model_name: string }, object>('manage', act);
    return ((call, answer) => {
      const tell = (error: unknown): void => {
        const code =
          error == null ? 'OK' : String((error as Partial<StatusObject>).metadata?.get('error-code')[0]);
        const facts = { method, model: call.request.model_name, ip: call.getPeer(), code };
        parts.audit?.({ key: keyNameOf(call, access), ...facts });
      };
      run(call, (error, value) => {
        tell(error);
        answer(error, value);
      });
    }) satisfies typeof run;
  };

  const find = (name: string, wanted: string): ModelStatus => {
    const found = meantVersion(service.models(), () => management.list(), name, wanted || null);
    if (found) return found;
    throw new ServingError(
      'MODEL_NOT_FOUND',
      `Model not found: ${name}${wanted === '' ? '' : `, version ${wanted}`}`,
    );
  };

  /** Where a message goes, its version settled. @throws ServingError */
  const aimed = (...[call, key, message]: Parameters<typeof targetOf>): Target => {
    find(message.model_name, message.model_version);
    return withVersion(targetOf(call, key, message), service, headersOf(call));
  };

  /** Responses of one request, in order. @throws ServingError */
  async function* infer(
    message: InferRequestMessage,
    target: Target,
    client: AbortSignal,
    streamed: boolean,
  ) {
    if (parts.isDraining()) throw new ServingError('SHUTTING_DOWN', 'The server is shutting down');
    const status = find(target.model, target.version ?? '');
    const inputs = tensorsOfMessage(message);
    const respond = (outputs: readonly NamedTensor[], isFinal: boolean): InferResponseMessage => ({
      model_name: status.name,
      model_version: status.version ?? '',
      id: message.id,
      ...(streamed && {
        parameters: { triton_final_response: { parameter_choice: 'bool_param', bool_param: isFinal } },
      }),
      ...outputsOf(outputs),
    });
    const parameters = valuesOf(message.parameters);
    if (!streamed || status.task !== 'text-generation') {
      const outputs = message.outputs.length > 0 ? message.outputs.map(({ name }) => name) : null;
      yield respond(
        await inferTensors(service, status, { inputs, outputs, parameters }, target, client),
        true,
      );
      return;
    }
    const { additional, echo, request, stream } = textInference(inputs, parameters, target);
    const accepted = await service.submit(request, client);
    const beside = new TextOutputs(additional, accepted.promptTokens);
    const told = (text: string, finish: FinishEvent | null): InferResponseMessage =>
      respond([stringOutput('text_output', text), ...beside.tensors(finish)], finish !== null);
    let isFirst = true;
    for await (const event of accepted.events) {
      if (event.kind === 'prompt-token') continue;
      if (event.kind === 'token') {
        beside.add(event);
        if (!stream || event.text === '') continue;
        yield told(`${isFirst ? echo : ''}${event.text}`, null);
        isFirst = false;
        continue;
      }
      if (!stream) {
        yield told(`${echo}${event.generatedText}`, event);
      } else if (event.text !== '' || isFirst || additional.length > 0) {
        yield told(`${isFirst ? echo : ''}${event.text}`, event);
      } else if (message.parameters.triton_enable_empty_final_response?.bool_param === true) {
        yield respond([], true);
      }
      return;
    }
  }

  return {
    ServerLive: unary<object, { live: boolean }>(null, () => ({ live: true })),
    ServerReady: unary<object, { ready: boolean }>(null, () => ({ ready: !parts.isDraining() })),
    ModelReady: unary<Named, { ready: boolean }>('infer', ({ name, version: wanted }) => ({
      ready: find(name, wanted).state === 'READY',
    })),
    ServerMetadata: unary<object, object>('infer', () => ({
      name: 'shardserve',
      version,
      extensions: ['model_repository', 'model_configuration', 'statistics'],
    })),
    ModelMetadata: unary<Named, object>('infer', ({ name, version: wanted }) =>
      metadataOf(service.models(), find(name, wanted)),
    ),
    ModelConfig: unary<Named, object>('infer', ({ name, version: wanted }) => ({
      config: configurationOf(management.list(), find(name, wanted)),
    })),
    // Without a name: of every model.
    ModelStatistics: unary<Named, object>('infer', ({ name, version: wanted }) => {
      if (name !== '') find(name, wanted);
      return statisticsOf(parts.statistics?.() ?? [], name || null, wanted || null);
    }),
    ModelInfer: unary<InferRequestMessage, InferResponseMessage>('infer', async (message, call) => {
      const key = checkCall(call, access, 'infer');
      const target = aimed(call, key, message);
      const { signal } = callController(call);
      const times = timesOf(call, signal);
      const end = access.limits.begin(key);
      try {
        for await (const response of infer(message, target, signal, false)) {
          trailers.set(call, timingOf(times));
          return response;
        }
      } finally {
        end();
        tellAnswered(times, parts.onAnswered);
      }
      throw new Error('a request ended without a response');
    }),
    ModelStreamInfer: (stream: Stream) => streamInfer(stream, parts, aimed, infer),
    RepositoryIndex: unary<{ ready: boolean }, object>('manage', ({ ready }) => ({
      models: management
        .list()
        .filter(({ state }) => !ready || state === 'READY')
        .map(({ failure, name, state, version: of }) => ({
          name,
          version: of ?? '',
          state: MODEL_STATES[state],
          reason: failure?.message ?? '',
        })),
    })),
    RepositoryModelLoad: audited('RepositoryModelLoad', async ({ model_name: name }) => {
      if (!/^[A-Za-z0-9][\w.-]{0,254}$/.test(name)) {
        throw new ServingError('BAD_REQUEST', 'model_name must be the name of a folder of the model store');
      }
      const registration = await management.register({
        url: path.join(modelStore, name),
        name,
        version: null,
      });
      await registration.ready;
      return {};
    }),
    RepositoryModelUnload: audited('RepositoryModelUnload', async ({ model_name: name }) => {
      await management.unregister(name, null);
      return {};
    }),
  };
}

type Infer = (
  message: InferRequestMessage,
  target: Target,
  client: AbortSignal,
  streamed: boolean,
) => AsyncIterable<InferResponseMessage>;

/** Requests of one stream run side by side; the stream ends when its client has ended it and all are answered. */
function streamInfer(
  stream: Stream,
  { access, onAnswered, stallLimitMs }: GrpcParts,
  aimed: (...asked: Parameters<typeof targetOf>) => Target,
  infer: Infer,
): void {
  let key: ReturnType<typeof checkCall>;
  try {
    key = checkCall(stream, access, 'infer');
  } catch (error) {
    stream.emit('error', statusOf(error));
    return;
  }
  readOneAhead(stream);
  const client = callController(stream);
  // Each of its requests may wait for its reader.
  stream.setMaxListeners(2 * MAX_STREAM_REQUESTS);
  let running = 0;
  let heldBytes = 0;
  const isFull = (): boolean => running >= MAX_STREAM_REQUESTS || heldBytes >= MAX_STREAM_BYTES;
  let hasEnded = false;
  const endIfDone = (): void => {
    if (hasEnded && running === 0 && !stream.cancelled) stream.end();
  };
  /** Also errors wait for their reader: it may send what is refused for ever. @returns false: it takes nothing, and the stream has ended */
  const tell = async (response: Parameters<Stream['write']>[0]): Promise<boolean> => {
    if (stream.write(response) || (await drained(stream, client.signal, stallLimitMs))) return true;
    client.abort();
    stream.emit('error', statusOf(readerStopped(stallLimitMs)));
    return false;
  };
  const answer = async (message: InferRequestMessage): Promise<void> => {
    const end = access.limits.begin(key);
    const { own, leave } = ownController(client.signal);
    const times = timesOf(null, own.signal);
    try {
      const target = aimed(stream, key, message);
      for await (const response of infer(message, target, own.signal, true))
        if (!(await tell({ error_message: '', infer_response: response }))) return;
    } finally {
      end();
      leave();
      tellAnswered(times, onAnswered);
    }
  };
  stream.on('data', (message: InferRequestMessage) => {
    const raw = message.raw_input_contents.reduce((sum, one) => sum + one.length, 0);
    const bytes = Math.max(raw, bytesOfMessage(message));
    running += 1;
    heldBytes += bytes;
    if (isFull()) stream.pause();
    answer(message)
      .catch(async (error: unknown) => {
        if (client.signal.aborted) return;
        const { details } = statusOf(error);
        const { id, model_name, model_version } = message;
        const empty = { id, model_name, model_version, outputs: [], raw_output_contents: [] };
        await tell({ error_message: details || 'Internal error', infer_response: empty });
      })
      .finally(() => {
        running -= 1;
        heldBytes -= bytes;
        doneWith(message);
        if (!isFull()) stream.resume();
        endIfDone();
      });
  });
  stream.on('end', () => {
    hasEnded = true;
    endIfDone();
  });
  // The client's cancellation; its requests end by the signal.
  stream.on('error', () => {});
}
