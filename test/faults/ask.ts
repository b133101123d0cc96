/**
 * One request as a client sends it, in one of the three ways: a stream, a whole answer, an answer that is fetched later.
 *
 * In      a server's URL, a request
 * Out     what the client has at the end, to be compared with what it has of an undisturbed run; when each token came
 * Limits  LIMIT_MS until it is given up
 * Errors  none: a problem is a result
 */
import { jsonLines } from '../support/server-process.js';
import { wallMs } from './fault-orders.js';

export const WAYS = ['stream', 'whole', 'asynchronous'] as const;
export type Way = (typeof WAYS)[number];

const LIMIT_MS = 600_000;
/** Between two looks at an answer that is not there yet. */
const POLL_MS = 10;

export interface Asked {
  /** Stands in the server's log. */
  id: string;
  way: Way;
  prompt: string;
  parameters: Readonly<Record<string, unknown>>;
  /** Requests of one salt share rows of their prompts. */
  salt?: string;
}

export interface Answer {
  /** All of it, as one text; '': there is none. */
  content: string;
  /** null: it is whole. */
  problem: string | null;
  /** When each token came, on the wall clock; of streams only. */
  tokenMs: readonly number[];
}

/** @param onToken hears of each token of a stream */
export async function ask(
  url: string,
  asked: Asked,
  onToken: (count: number) => void = () => {},
): Promise<Answer> {
  const tokenMs: number[] = [];
  try {
    const signal = AbortSignal.timeout(LIMIT_MS);
    const content = await answerOf(url, asked, signal, () => {
      tokenMs.push(wallMs());
      onToken(tokenMs.length);
    });
    return { content, problem: problemIn(content), tokenMs };
  } catch (error) {
    return { content: '', problem: String(error), tokenMs };
  }
}

async function answerOf(
  url: string,
  asked: Asked,
  signal: AbortSignal,
  onToken: () => void,
): Promise<string> {
  const { id, parameters, prompt, salt, way } = asked;
  const target = `${url}/predictions/embedded`;
  const response = await fetch(target, {
    method: 'POST',
    signal,
    headers: {
      'content-type': 'application/json',
      'x-request-id': id,
      ...(salt !== undefined && { 'x-cache-salt': salt }),
      ...(way === 'asynchronous' && { 'x-synchronous': 'false' }),
    },
    body: JSON.stringify({
      inputs: prompt,
      stream: way === 'stream',
      parameters: { details: true, ...parameters },
    }),
  });
  switch (way) {
    case 'stream': {
      if (!response.ok) return response.text();
      const lines: string[] = [];
      for await (const line of jsonLines(response)) {
        lines.push(JSON.stringify(line));
        if (line.token !== undefined) onToken();
      }
      return lines.join('\n');
    }
    case 'whole':
      return response.text();
    case 'asynchronous': {
      await response.arrayBuffer();
      const token = response.headers.get('x-next-token');
      if (token === null) return `status ${response.status}, no token`;
      return fetched(target, token);
    }
  }
}

async function fetched(target: string, token: string): Promise<string> {
  const endMs = performance.now() + LIMIT_MS;
  for (;;) {
    if (performance.now() > endMs) return `not there after ${LIMIT_MS} ms`;
    // One signal a request: all that have ever listened to one are kept as long as it.
    const signal = AbortSignal.timeout(LIMIT_MS);
    const response = await fetch(target, { method: 'POST', headers: { 'x-starting-token': token }, signal });
    const text = await response.text();
    if (response.status !== 202) return text;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** An answer that is whole says so with its text. */
const problemIn = (content: string): string | null =>
  /"generated_text"/.test(content) ? null : `no whole answer: ${content.slice(-300)}`;
