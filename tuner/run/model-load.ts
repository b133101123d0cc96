/**
 * The load of one model: its dialect, its payloads, its arrivals.
 *
 * In      where the server is, the plan, a load point, a seed
 * Out     a LoadResult
 */
import type { Dialect } from '../dialects/dialect.js';
import { DjlDialect } from '../dialects/djl.js';
import { OipGrpcDialect } from '../dialects/oip-grpc.js';
import { OpenAiDialect } from '../dialects/openai.js';
import { evenArrivals, poissonArrivals, readTrace } from '../load/arrivals.js';
import type { Clock } from '../load/clock.js';
import { type Arrivals, type LoadResult, LoadRun } from '../load/load-run.js';
import { payloadMaker } from '../load/payloads.js';
import type { RequestRecord } from '../load/request-record.js';
import type { LoadPlan, ModelPlan } from '../plan/tune-plan.js';
import type { InputDescription } from '../target/model-description.js';
import type { LoadPoint } from './measurement.js';

export interface LoadTarget {
  url: string;
  /** HOST:PORT; null: none. */
  grpcAddress: string | null;
}

export interface ModelLoadOptions {
  target: LoadTarget;
  model: ModelPlan;
  load: LoadPlan;
  point: LoadPoint;
  inputs: readonly InputDescription[] | null;
  seed: number;
  clock: Clock;
  signal?: AbortSignal;
  onRecord?: (record: RequestRecord) => void;
  /** The warm-up is over. */
  onMeasuring?: () => void;
}

export async function runModelLoad(options: ModelLoadOptions): Promise<LoadResult> {
  const { clock, inputs, load, model, onMeasuring, onRecord, point, seed, signal, target } = options;
  const dialect = dialectOf(target, model);
  const payload = payloadMaker({ plan: model.request, inputs, folder: model.folder, seed });
  try {
    return await new LoadRun(
      {
        arrivals: arrivalsOf(load, point, seed),
        warmUp: load.warmUp,
        windows: load.windows,
        requests: load.requests,
        requestTimeoutMs: load.requestTimeoutMs,
        maxOutstanding: load.maxOutstanding,
      },
      {
        ask: (asked, limit) => dialect.ask(asked, limit),
        payload,
        clock,
        ...(signal ? { signal } : {}),
        ...(onRecord ? { onRecord } : {}),
        ...(onMeasuring ? { onMeasuring } : {}),
      },
    ).run();
  } finally {
    dialect.close();
  }
}

function arrivalsOf(load: LoadPlan, point: LoadPoint, seed: number): Arrivals {
  if (point.kind === 'concurrency') return { kind: 'closed', concurrency: point.value };
  if (point.kind === 'trace') return { kind: 'trace', lines: readTrace(load.trace!) };
  return { kind: 'open', times: load.even ? evenArrivals(point.value) : poissonArrivals(point.value, seed) };
}

/** @throws Error when the protocol is not served there */
export function dialectOf({ grpcAddress, url }: LoadTarget, { name, request }: ModelPlan): Dialect {
  const { headers, parameters, path, stream } = request;
  const common = { model: name, stream, headers, parameters };
  if (request.dialect === 'oip-grpc') {
    if (grpcAddress === null) throw new Error('the dialect is oip-grpc: server.grpc_address is missing');
    return new OipGrpcDialect({ ...common, address: grpcAddress });
  }
  const http = { ...common, url, ...(path === null ? {} : { path }) };
  if (request.dialect === 'djl') return new DjlDialect(http);
  return new OpenAiDialect({ ...http, chat: request.dialect === 'openai-chat' });
}
