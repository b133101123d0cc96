/**
 * Codec of control.proto: what the coordinator and a shard worker say to each other.
 *
 * In      plain objects of the types below (every field present)
 * Out     one frame (Uint8Array) and back
 * Limits  MAX_CONTROL_FRAME_BYTES a frame
 * Errors  decode* throw an Error on a frame that is not of the type: both ends are ours, so it is a bug, not bad input
 */
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import { MAX_CONTROL_FRAME_BYTES } from './limits.js';
import { protoFile } from './proto-file.js';

export interface Sampling {
  /** Then temperature, topK, topP, minP, typicalP and the seed mean nothing. */
  greedy: boolean;
  /** > 0 */
  temperature: number;
  /** 0: off */
  topK: number;
  /** 1: off */
  topP: number;
  /** 0: off */
  minP: number;
  /** 1: off */
  typicalP: number;
  /** 1: off; over prompt and new tokens */
  repetitionPenalty: number;
  /** 0: off; over new tokens */
  presencePenalty: number;
  /** 0: off; over new tokens */
  frequencyPenalty: number;
  /** End ids are masked before. */
  minNewTokens: number;
  seedLow: number;
  seedHigh: number;
  logitBias: Record<number, number>;
  /** Report the chosen token's log-probability: of the model, before penalties and temperature. */
  logprob: boolean;
  topLogprobs: number;
  /** Empty: all. */
  allowedIds: number[];
  /** The last id of one is masked where the new tokens end with those before it. */
  badWords: { ids: number[] }[];
}

/** Greedy, and every processor off. */
export const GREEDY_SAMPLING: Readonly<Sampling> = {
  greedy: true,
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  minNewTokens: 0,
  seedLow: 0,
  seedHigh: 0,
  logitBias: {},
  logprob: false,
  topLogprobs: 0,
  allowedIds: [],
  badWords: [],
};

export interface SequenceOpen {
  slot: number;
  sequence: number;
  promptIds: number[];
  maxNewTokens: number;
  endIds: number[];
  sampling: Sampling;
  /** Above 0: the slot is open still (warm), and its first rows stay, which are those of the prompt's first tokens. Absent: 0. */
  keptRows?: number;
  /** New tokens that were chosen already: of a sequence that was preempted. Absent: none. */
  newIds?: number[];
  /** What the first new tokens are: of a prompt whose log-probabilities are asked for. Absent: none. */
  forcedIds?: number[];
  /** Where the second of two texts side by side begins. Absent: there is none. */
  secondTextAt?: number;
}

/** Keys and values that another slot holds of the same first tokens: the prompt goes on behind them. */
export interface RowCopy {
  fromSlot: number;
  fromSequence: number;
  toSlot: number;
  toSequence: number;
  /** That the sequence has afterwards. */
  rows: number;
}

export interface Row {
  slot: number;
  sequence: number;
  /** Prompt tokens to run in this step; 1 for a decode. */
  tokens: number;
  /** Bounds the token that the row chooses. Absent or null: any. */
  mask?: TokenMask | null;
  /** Guesses of the tokens behind those, run with them. Absent: none. */
  draftIds?: number[];
  /** The mask comes later, in a message of its own. Absent: no. */
  maskFollows?: boolean;
}

/** The mask of the next row of a sequence that was sent without. */
export interface LateMask {
  sequence: number;
  /** null: the row is left out. */
  mask: TokenMask | null;
}

/** The ids that may be chosen: a list, or bits; where there are neither, none. */
export interface TokenMask {
  /** Rising. */
  ids: number[];
  /** Id i: bit i % 8 of byte i / 8. */
  bits: Uint8Array;
}

export interface Masks {
  masks: LateMask[];
}

export interface Step {
  step: number;
  closeSlots: number[];
  opens: SequenceOpen[];
  /** After the opens, before the rows. Absent: none. */
  copies?: RowCopy[];
  rows: Row[];
}

export interface TopLogprob {
  tokenId: number;
  logprob: number;
}

export interface ChosenToken {
  tokenId: number;
  /** The model's: before penalties and temperature. NaN unless asked for. */
  logprob: number;
  topLogprobs: TopLogprob[];
}

export const Finish = { RUNNING: 0, END_ID: 1, LENGTH: 2, FAILED: 3 } as const;
export type Finish = (typeof Finish)[keyof typeof Finish];

/** Why a row has no token: its sequence alone has failed. */
export interface RowFailure {
  /** One of proto/errors.ts. */
  code: string;
  message: string;
}

export interface RowResult {
  slot: number;
  sequence: number;
  skipped: boolean;
  /** None while a prompt is not through; else one, and one more behind each draft that was chosen. */
  tokens: ChosenToken[];
  /** Behind the last of them. */
  finish: Finish;
  /** An embedding model's: the text's, or all its tokens' in turn; then the sequence has ended. Else empty. */
  vector: number[];
  /** Then the sequence has ended (FAILED). Absent or null: none. */
  failure?: RowFailure | null;
}

export interface StepResult {
  step: number;
  rows: RowResult[];
  computeUs: number;
  collectiveUs: number;
  chooseUs: number;
}

export interface Inspection {
  id: number;
  pid: number;
  steps: number;
  allReduces: number;
  gathers: number;
  collectiveBytesSent: number;
  weightBytes: number;
  kvReservedBytes: number;
  kvTouchedBytes: number;
  openSlots: number[];
  computeUs: number;
  collectiveUs: number;
  chooseUs: number;
  /** The part of collectiveUs in which it waited for ranks that came later; 0 where the transport can't tell (ZeroMQ). */
  collectiveSkewUs: number;
}

export interface Ready {
  pid: number;
  loadMs: number;
  warmUpMs: number;
  /** CONTROL_VERSION of the rank. */
  version: number;
}

export interface Loading {
  doneBytes: number;
  totalBytes: number;
}

export interface Failure {
  /** One of proto/errors.ts. */
  code: string;
  message: string;
}

export type ToWorker =
  | { body: 'step'; step: Step }
  | { body: 'inspect'; inspect: { id: number } }
  | { body: 'shutdown'; shutdown: Record<string, never> }
  | { body: 'masks'; masks: Masks };

export type FromWorker =
  | { rank: number; body: 'loading'; loading: Loading }
  | { rank: number; body: 'ready'; ready: Ready }
  | { rank: number; body: 'result'; result: StepResult }
  | { rank: number; body: 'inspection'; inspection: Inspection }
  | { rank: number; body: 'failure'; failure: Failure };

const root = protobuf.parse(readFileSync(protoFile('control.proto'), 'utf8')).root;
const toWorkerType = root.lookupType('shardserve.ToWorker');
const fromWorkerType = root.lookupType('shardserve.FromWorker');
const asPlain: protobuf.IConversionOptions = { defaults: true, arrays: true, objects: true, oneofs: true };

export const encodeToWorker = (message: ToWorker): Uint8Array => encode(toWorkerType, message);
export const decodeToWorker = (frame: Uint8Array): ToWorker => decode(toWorkerType, frame) as ToWorker;
export const encodeFromWorker = (message: FromWorker): Uint8Array => encode(fromWorkerType, message);
export const decodeFromWorker = (frame: Uint8Array): FromWorker =>
  decode(fromWorkerType, frame) as FromWorker;

function encode(type: protobuf.Type, message: object): Uint8Array {
  const frame = type.encode(message as protobuf.Message).finish();
  if (frame.byteLength > MAX_CONTROL_FRAME_BYTES) {
    throw new Error(`control frame of ${frame.byteLength} bytes; the limit is ${MAX_CONTROL_FRAME_BYTES}`);
  }
  return frame;
}

function decode(type: protobuf.Type, frame: Uint8Array): unknown {
  if (frame.byteLength > MAX_CONTROL_FRAME_BYTES) {
    throw new Error(`control frame of ${frame.byteLength} bytes; the limit is ${MAX_CONTROL_FRAME_BYTES}`);
  }
  return type.toObject(type.decode(frame), asPlain);
}
