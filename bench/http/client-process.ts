/**
 * Clients in a process of their own: opens streams at once, and notes when each token came.
 *
 * Run     forked by stream-clients.ts, with an IPC channel; ends with it
 * In      StreamCall messages, one at a time
 * Out     StreamTimes of every stream, and the processor time used
 * How     server-sent events are counted by the empty lines that end them, not parsed: what is measured is the server
 */
import { Agent, request } from 'node:http';

export interface StreamCall {
  url: string;
  model: string;
  prompts: number[][];
  maxTokens: number;
}

/** Milliseconds since the call. */
export interface StreamTimes {
  /** Of the tokens, in order. */
  tokens: number[];
}

export interface StreamAnswer {
  streams: StreamTimes[];
  cpuSeconds: number;
  seconds: number;
  error: string | null;
}

/** Events after the last token: the one with the reason it finished, and [DONE]. */
const CLOSING_EVENTS = 2;
const NEWLINE = 10;

const agent = new Agent({ keepAlive: true });

async function answer({ maxTokens, model, prompts, url }: StreamCall): Promise<StreamAnswer> {
  const cpu = process.cpuUsage();
  const started = performance.now();
  const streams = await Promise.all(
    prompts.map((prompt) => stream(`${url}/v1/completions`, { model, prompt, maxTokens }, started)),
  );
  const { system, user } = process.cpuUsage(cpu);
  return {
    streams,
    cpuSeconds: (user + system) / 1e6,
    seconds: (performance.now() - started) / 1000,
    error: null,
  };
}

function stream(
  url: string,
  { maxTokens, model, prompt }: { model: string; prompt: number[]; maxTokens: number },
  started: number,
): Promise<StreamTimes> {
  const body = JSON.stringify({
    model,
    prompt,
    max_tokens: maxTokens,
    temperature: 0,
    ignore_eos: true,
    stream: true,
  });
  return new Promise((resolve, reject) => {
    const events: number[] = [];
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const sent = request(url, { method: 'POST', agent, headers }, (response) => {
      let isNewline = false;
      let text = '';
      response.on('data', (chunk: Buffer) => {
        const nowMs = performance.now() - started;
        if (response.statusCode !== 200) text += chunk.toString();
        for (const byte of chunk) {
          if (byte === NEWLINE && isNewline) events.push(nowMs);
          isNewline = byte === NEWLINE && !isNewline;
        }
      });
      response.once('error', reject);
      response.once('end', () => {
        const tokens = events.slice(0, -CLOSING_EVENTS);
        if (tokens.length === maxTokens) resolve({ tokens });
        else
          reject(
            new Error(`${tokens.length} tokens instead of ${maxTokens}: ${response.statusCode} ${text}`),
          );
      });
    });
    sent.once('error', reject);
    sent.end(body);
  });
}

process.on('message', (call: StreamCall) => {
  answer(call)
    .catch((error: Error) => ({ streams: [], cpuSeconds: 0, seconds: 0, error: error.message }))
    .then((message) => process.send?.(message));
});
process.on('disconnect', () => process.exit(0));
