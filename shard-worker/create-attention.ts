/**
 * Which attention a rank runs: our own kernels where the device has them, ONNX Runtime's over views of a slot on another host device, a
 * remote device's own over buffers of its own.
 *
 * In      the manifest, the device with its buffers and cache
 * Out     attention of one layer, of all sequences of a step
 * Errors  assertions: sizes and names come from the manifest
 */
import assert from 'node:assert/strict';
import type { AttendVariant } from '../proto/attend.js';
import { attendSegment } from '../proto/attend-segment.js';
import type { AttendOp, Manifest } from '../proto/manifest.js';
import { Attention, attendInputs, tokenInputs, tokenOutputs } from './attention.js';
import type { HostDevice, LoadSegment, RemoteDevice, Segment, TensorHandle } from './device/device.js';
import type { KvCache } from './kv-cache.js';
import { loadKernels } from './native/kernels.js';
import { NativeAttention } from './native-attention.js';
import { type LoadModel, RemoteAttention } from './remote-attention.js';
import type { RemoteKvCache } from './remote-kv-cache.js';
import type { RemoteStepBuffers } from './remote-step-buffers.js';
import type { Span } from './span.js';
import { spanPieces } from './span-pieces.js';
import { StepAttention } from './step-attention.js';
import type { HostStepBuffers } from './step-buffers.js';

type Queries = AttendVariant['when']['queries'];

/** Attention of one layer, of all sequences of a step. */
export interface StepAttends {
  /** Before the first layer of a step. */
  begin?(spans: readonly Span[]): void;
  /**
   * @param window tokens a query sees, itself included; null: all
   * @param piece tokens of the pieces that a text is cut into; null: it is not
   */
  attendAll(spans: readonly Span[], layer: number, window: number | null, piece: number | null): void;
}

export interface HostAttentionOptions {
  manifest: Manifest;
  device: HostDevice;
  buffers: HostStepBuffers;
  kvCache: KvCache;
  maxStepTokens: number;
  loadSegment: LoadSegment;
}

/** The program's first attention: all others are from, over and to the same buffers. */
export function attendOf(manifest: Manifest): AttendOp {
  const ops = manifest.program.filter((op): op is AttendOp => op.op === 'attend');
  const [first] = ops;
  assert(first, 'a program attends');
  for (const op of ops) {
    for (const role of ['query', 'key', 'value', 'output'] as const) {
      assert.equal(op[role], first[role], 'all layers attend from, over and to the same buffers');
    }
  }
  return first;
}

export function createHostAttention(options: HostAttentionOptions): StepAttends {
  const { buffers, device, kvCache, loadSegment, manifest, maxStepTokens } = options;
  const { bias, distanceRows, keysIn } = manifest.attend;
  const load = (queries: Queries, inputs: readonly string[], outputs: readonly string[]): Segment => {
    const segment = attendSegment(manifest.attend, queries);
    assert(segment !== undefined, `the shards have no attention for ${queries}`);
    return loadSegment(segment, inputs, outputs);
  };
  const first = attendOf(manifest);
  const isWindowed = manifest.program.some((op) => op.op === 'attend' && op.window !== null);
  const roles = {
    ...{ query: buffers.activations(first.query), output: buffers.activations(first.output) },
    ...{ key: buffers.activations(first.key), value: buffers.activations(first.value) },
  };
  const ownScores = bias !== undefined || distanceRows !== undefined;
  const kernels = device.hasKernels && !ownScores ? loadKernels() : null;
  const native =
    kernels === null
      ? null
      : new NativeAttention({ kernels, device, kvCache, manifest, ...roles, maxSpans: maxStepTokens });
  // Windows to both sides are ONNX Runtime's alone.
  if (native !== null && (keysIn === 'slot' || !isWindowed)) return native;
  /** By segments of ONNX Runtime, a sequence at a time. */
  const oneByOne = (attention: Pick<Attention, 'attend'>): StepAttends => {
    const [newKeys, newValues] = [buffers.float32(first.key), buffers.float32(first.value)];
    return {
      attendAll: (spans, layer, window, piece) => {
        for (const span of spans.flatMap((whole) => spanPieces(whole, piece))) {
          attention.attend(span, layer, { window, piece }, newKeys, newValues);
        }
      },
    };
  };
  if (keysIn === 'step') {
    const inputs = ['query', 'key', 'value', 'length'];
    const distances = distanceRows === undefined ? [] : distanceTables(options, distanceRows);
    const tables = distances.length === 0 ? [] : DISTANCE_TABLES;
    const attention = new StepAttention({
      ...{ device, maxStepTokens, ...roles, distances },
      attend: load('chunk', [...inputs, ...tables], ['output']),
      masked: isWindowed ? load('masked-chunk', [...inputs, 'mask'], ['output']) : null,
    });
    const inTurn = oneByOne(attention);
    return {
      attendAll: (spans, layer, window, piece) =>
        (window === null && native !== null ? native : inTurn).attendAll(spans, layer, window, piece),
    };
  }
  const { numKvHeads } = kvCache;
  const inputs = attendInputs(numKvHeads);
  return oneByOne(
    new Attention({
      device,
      kvCache,
      sinkColumn: manifest.attend.sinkColumn ?? null,
      segments: {
        chunk: load('chunk', inputs, ['output']),
        masked: load('masked-chunk', [...inputs, 'mask'], ['output']),
        token: load('token', tokenInputs(numKvHeads), tokenOutputs(numKvHeads)),
      },
      query: roles.query,
      output: roles.output,
      maxStepTokens,
    }),
  );
}

const DISTANCE_TABLES = ['distance-query', 'distance-key'];

/** Both tables of each layer, made once. */
function distanceTables(
  { buffers, device, loadSegment, manifest }: HostAttentionOptions,
  rows: number,
): TensorHandle[][] {
  const { columns } = buffers.spec(attendOf(manifest).query);
  return Array.from({ length: manifest.model.numLayers }, (_, layer) => {
    const segment = loadSegment(`distances-${layer}`, [], DISTANCE_TABLES);
    const binding = segment.newBinding();
    const tables = DISTANCE_TABLES.map(() =>
      device.tensor(device.reserve(rows * columns * 4), 0, 'float32', [rows, columns]),
    );
    for (const [index, table] of tables.entries()) binding.setOutput(index, table);
    segment.run(binding);
    segment.release();
    return tables;
  });
}

export function createRemoteAttention(options: {
  manifest: Manifest;
  device: RemoteDevice;
  buffers: RemoteStepBuffers;
  kvCache: RemoteKvCache;
  maxStepTokens: number;
  loadSegment: LoadSegment;
  modelOf: (segment: string) => Uint8Array;
  loadModel: LoadModel;
}): StepAttends {
  const { key, output, query, value } = attendOf(options.manifest);
  const { buffers } = options;
  return new RemoteAttention({
    ...options,
    ...{ query: buffers.memory(query), key: buffers.memory(key), value: buffers.memory(value) },
    output: buffers.memory(output),
  });
}
