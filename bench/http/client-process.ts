/**
 * Clients in a process of their own: opens streams at once, and notes when each token came.
 *
 * Run     forked by stream-clients.ts, with an IPC channel; ends with it
 * In      ClientCall messages, one at a time
 * Out     a ClientAnswer to each: to `open` when every stream has its first token, to `burst` when every stream has ended or time is
 *         up, to `close` when every stream has ended
 * How     server-sent events are counted by the empty lines that end them, not parsed: what is measured is the server
 */
import { Agent, request } from 'node:http';
import { monotonicMs } from '../../tuner/load/monotonic.js';

export interface StreamCall {
  url: string;
  model: string;
  prompts: number[][];
  maxTokens: number;
}

/** `open` leaves streams running, `close` hangs up on them; `burst` opens, and waits for the ends for so long at most. */
export type ClientCall =
  | { call: 'open'; streams: StreamCall }
  | { call: 'burst'; streams: StreamCall; withinMs: number }
  | { call: 'close' };

export interface ClientAnswer {
  /** Of `open`: monotonicMs when it was called. */
  openedMs: number;
  /** Each stream's tokens, as monotonicMs, in order. */
  tokens: number[][];
  error: string | null;
}

interface Stream {
  tokens: number[];
  first: Promise<void>;
  ended: Promise<void>;
  hangUp: () => void;
}

const NEWLINE = 10;
const COLON = 0x3a;

const agent = new Agent({ keepAlive: true });
let openedMs = 0;
let streams: Stream[] = [];

function open({ maxTokens, model, prompts, url }: StreamCall): void {
  openedMs = monotonicMs();
  streams = prompts.map((prompt) => openStream(`${url}/v1/completions`, { model, prompt, maxTokens }));
}

async function answer(message: ClientCall): Promise<ClientAnswer> {
  if (message.call === 'open') {
    open(message.streams);
    await Promise.all(streams.map(({ first }) => first));
  } else if (message.call === 'burst') {
    open(message.streams);
    let isOver = false;
    const timer = setTimeout(() => {
      isOver = true;
      for (const { hangUp } of streams) hangUp();
    }, message.withinMs);
    const firsts = Promise.all(streams.map(({ first }) => first));
    // A stream that was hung up on before its first token failed by our own hand.
    await firsts.catch((error: unknown) => {
      if (!isOver) throw error;
    });
    await Promise.all(streams.map(({ ended }) => ended));
    clearTimeout(timer);
  } else {
    for (const { hangUp } of streams) hangUp();
    await Promise.all(streams.map(({ ended }) => ended));
  }
  return { openedMs, tokens: streams.map(({ tokens }) => tokens), error: null };
}

function openStream(
  url: string,
  { maxTokens, model, prompt }: { model: string; prompt: number[]; maxTokens: number },
): Stream {
  const body = JSON.stringify({
    model,
    prompt,
    max_tokens: maxTokens,
    temperature: 0,
    ignore_eos: true,
    stream: true,
  });
  const tokens: number[] = [];
  let hangUp = (): void => {};
  let onFirst = (): void => {};
  let onEnded = (): void => {};
  const ended = new Promise<void>((resolve) => {
    onEnded = resolve;
  });
  const first = new Promise<void>((resolve, reject) => {
    onFirst = resolve;
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const sent = request(url, { method: 'POST', agent, headers }, (response) => {
      let isNewline = false;
      let isFirstByte = true;
      // `: ping` keeps proxies from cutting a long prompt: it is no token.
      let isComment = false;
      let refusal = '';
      response.on('data', (chunk: Buffer) => {
        const nowMs = monotonicMs();
        if (response.statusCode !== 200) refusal += chunk.toString();
        for (const byte of chunk) {
          if (isFirstByte) isComment = byte === COLON;
          isFirstByte = byte === NEWLINE && isNewline;
          if (isFirstByte && !isComment && tokens.push(nowMs) === 1) onFirst();
          isNewline = byte === NEWLINE && !isNewline;
        }
      });
      response.once('error', () => onEnded());
      response.once('close', () => {
        onEnded();
        // Settled long ago where a token came.
        reject(new Error(`ended without a token: ${response.statusCode} ${refusal}`));
      });
    });
    hangUp = () => sent.destroy();
    sent.once('error', (error) => {
      onEnded();
      reject(error);
    });
    sent.end(body);
  });
  return { tokens, first, ended, hangUp };
}

process.on('message', (message: ClientCall) => {
  answer(message)
    .catch((error: Error): ClientAnswer => ({ openedMs, tokens: [], error: error.message }))
    .then((reply) => process.send?.(reply));
});
process.on('disconnect', () => process.exit(0));
