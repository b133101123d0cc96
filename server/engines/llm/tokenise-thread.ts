/**
 * Runs in a worker thread: tokenises long prompts, so that the server's event loop is not held up (design D9).
 *
 * In      workerData: the model folder; messages { id, text, addSpecialTokens }
 * Out     messages { id, ids } or { id, error }
 */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { Tokenizer } from '../../text/tokenizer.js';

export interface TokeniseRequest {
  id: number;
  text: string;
  addSpecialTokens: boolean;
}

export type TokeniseReply = { id: number; ids: Uint32Array<ArrayBuffer> } | { id: number; error: string };

const port = parentPort;
assert(port && typeof workerData === 'string', 'this module is the program of a worker thread');
const tokenizer = await Tokenizer.load(workerData);

port.on('message', ({ id, text, addSpecialTokens }: TokeniseRequest) => {
  try {
    const ids = Uint32Array.from(tokenizer.encode(text, { addSpecialTokens }));
    port.postMessage({ id, ids } satisfies TokeniseReply, [ids.buffer]);
  } catch (error) {
    port.postMessage({ id, error: String(error) } satisfies TokeniseReply);
  }
});
