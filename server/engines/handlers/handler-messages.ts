/**
 * What the server and the process that runs a handler say to each other, over the process's channel (structured clone).
 *
 * A process is told its handler first and answers whether it is ready; then it answers each batch, in order. Heads and chunks of
 * streamed answers come in between.
 */
import type { ContentHead, ContentPart } from '../../requests/invoke-request.js';
import type { FinishReason } from '../../requests/job-events.js';

export const BUILT_IN = [
  'pipeline',
  ...['image_classifier', 'image_segmenter', 'object_detector'],
  ...['text_classifier', 'text_to_embedding', 'token_classifier'],
] as const;
export type BuiltIn = (typeof BUILT_IN)[number];

/** Where a handler is. */
export interface HandlerEntry {
  /** Absolute. */
  folder: string;
  /** Relative to it. */
  file: string;
  /** Name of the exported function or class; null: found by the rules of handler-shape.ts. */
  exported: string | null;
  /** One that comes with the server, in place of a file. */
  builtIn: BuiltIn | null;
}

export interface HandlerSetup {
  entry: HandlerEntry;
  modelName: string;
  modelVersion: string | null;
  batchSize: number;
  threads: number;
  /** The process's, besides Node itself. */
  memoryMb: number;
  /** It has a language model to ask. */
  hasModel: boolean;
  /** What `initialize` and `handle` read of the model's configuration. */
  properties: Readonly<Record<string, string>>;
}

export interface HandlerRequest {
  requestId: string;
  content: readonly ContentPart[];
  properties: Readonly<Record<string, string>>;
}

export type ToHandler =
  | { kind: 'load'; setup: HandlerSetup }
  | { kind: 'run'; id: number; requests: readonly HandlerRequest[] }
  /** The client of one request of the batch is gone. */
  | { kind: 'left'; id: number; index: number }
  /** What the handler asked its language model: a piece of the text, its end, or why there is none. */
  | {
      kind: 'told';
      ask: number;
      piece?: string;
      end?: { text: string; promptTokens: number; newTokens: number; reason: FinishReason };
      failure?: { code: string; message: string };
    };

export type HandlerAnswer =
  /** `ofBatch`: what one request was refused with, as it may be, and all of its batch with it. */
  | { kind: 'whole'; head: ContentHead; bytes: Uint8Array; ofBatch?: boolean }
  /** Its chunks were sent. */
  | { kind: 'streamed' }
  | { kind: 'failed'; message: string };

export type FromHandler =
  | { kind: 'loaded' }
  | { kind: 'failed'; message: string; stack: string }
  | { kind: 'head'; id: number; index: number; head: ContentHead }
  | { kind: 'chunk'; id: number; index: number; bytes: Uint8Array }
  | { kind: 'metric'; line: string }
  /** Asked of the handler's language model. */
  | { kind: 'ask'; ask: number; text: string; parameters: Readonly<Record<string, unknown>> }
  | { kind: 'unask'; ask: number }
  /** A throw's; for the log only. */
  | { kind: 'stack'; text: string }
  | { kind: 'answered'; id: number; answers: readonly HandlerAnswer[]; us: number }
  /** The whole batch failed. */
  | { kind: 'threw'; id: number; message: string };
