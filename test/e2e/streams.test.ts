/** Streams of the embedded model at tp 2, through one server: text, concurrency, clients that leave, ranks that stop and die. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonLines, ServerProcess } from '../support/server-process.js';

/** Logits so close may change places with the shape of a batch. */
const TIE = 1e-4;

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start({ TENSOR_PARALLEL_DEGREE: '2', SERVING_RETRY_THRESHOLD: '10' });
});
afterAll(() => server?.stop());

const predict = (inputs: string, parameters: object, signal?: AbortSignal) =>
  server.post('/predictions/embedded', { inputs, parameters, stream: true }, signal);

/** Tokens of a streamed answer. */
async function tokensOf(
  response: Response,
): Promise<{ ids: number[]; text: string; last: Record<string, unknown> }> {
  const ids: number[] = [];
  let text = '';
  let last: Record<string, unknown> = {};
  for await (const line of jsonLines(response)) {
    last = line;
    const token = line.token as { id: number; text: string } | undefined;
    if (!token) continue;
    ids.push(token.id);
    text += token.text;
  }
  return { ids, text, last };
}

/** Reads `count` tokens and leaves the rest on the way. */
async function readSome(response: Response, count: number): Promise<void> {
  let seen = 0;
  for await (const _ of jsonLines(response)) if (++seen === count) return;
}

const slotFreed = (why: string, from: number) =>
  server.line((line) => line.msg === 'slot freed' && line.why === why, from);

describe('a stream', () => {
  it('is what the printed curl command asks for', async () => {
    const [, body] = /-d '(.*)'$/.exec(server.curlCommand) ?? [];
    const [, target] = /http:\/\/[^/]+(\S*)/.exec(server.curlCommand) ?? [];
    const response = await server.post(target!, JSON.parse(body!) as object);
    expect(response.status).toBe(200);
    const { ids, last, text } = await tokensOf(response);
    expect(ids.length).toBeGreaterThan(0);
    expect(ids.length).toBeLessThanOrEqual(100);
    expect(last.generated_text).toBe(text);
    expect(text).toMatch(/[a-z]{3,} [a-z]/);
  });

  it('is the same text for the same seed, and another for another', async () => {
    const sample = async (seed: number) =>
      (await tokensOf(await predict('The king', { max_new_tokens: 40, do_sample: true, seed }))).text;
    const first = await sample(5);
    expect(await sample(5)).toBe(first);
    expect(await sample(6)).not.toBe(first);
  });
});

describe('concurrent streams', () => {
  interface Alone {
    prompt: string;
    tokens: string[];
    /** Difference of the two best log-probabilities at each position. */
    gaps: number[];
  }

  async function complete(prompt: string): Promise<Alone> {
    const body = { model: 'embedded', prompt, max_tokens: 48, temperature: 0, logprobs: 2 };
    const response = await server.post('/v1/completions', body);
    expect(response.status).toBe(200);
    const answer = (await response.json()) as {
      choices: { logprobs: { tokens: string[]; top_logprobs: Record<string, number>[] } }[];
    };
    const { tokens, top_logprobs } = answer.choices[0]!.logprobs;
    const gaps = top_logprobs.map((alternatives) => {
      const [best = 0, second = Number.NEGATIVE_INFINITY] = Object.values(alternatives).sort((a, b) => b - a);
      return best - second;
    });
    return { prompt, tokens, gaps };
  }

  it('16 at once are each the greedy answer that they are alone', async () => {
    const prompts = Array.from(
      { length: 16 },
      (_, index) =>
        `Once upon a time there ${index % 2 ? 'was a king' : 'lived a poor woman'} who had ${index + 2} `,
    );
    const alone: Alone[] = [];
    for (const prompt of prompts) alone.push(await complete(prompt));
    const together = await Promise.all(prompts.map(complete));
    let ties = 0;
    for (const [index, { prompt, tokens }] of together.entries()) {
      const reference = alone[index]!;
      expect(tokens).toHaveLength(48);
      const at = tokens.findIndex((token, position) => token !== reference.tokens[position]);
      if (at < 0) continue;
      ties++;
      expect(reference.gaps[at], `${prompt}: token ${at}`).toBeLessThan(TIE);
    }
    process.stdout.write(`16 concurrent streams: ${ties} differ from their own run alone, at a tie\n`);
  });

  it('three short requests sent during a long one end before it', async () => {
    const ended: string[] = [];
    const long = await predict('Once upon a time', {
      max_new_tokens: 400,
      do_sample: false,
      ignore_eos_token: true,
    });
    const reader = jsonLines(long);
    await reader.next();
    const shorts = ['A', 'B', 'C'].map(async (name) => {
      await tokensOf(await predict(`${name} man`, { max_new_tokens: 5, do_sample: false }));
      ended.push(name);
    });
    const longEnd = (async () => {
      for await (const _ of reader);
      ended.push('long');
    })();
    await Promise.all([...shorts, longEnd]);
    expect(ended.at(-1)).toBe('long');
  });
});

describe('a client that leaves', () => {
  it('while its answer is made frees its slot', async () => {
    const from = server.lines.length;
    const leave = new AbortController();
    const response = await predict('Once', { max_new_tokens: 450, ignore_eos_token: true }, leave.signal);
    await readSome(response, 3).catch(() => {});
    leave.abort();
    const freed = await slotFreed('cancelled', from);
    expect(freed.newTokens).toBeLessThan(450);
  });

  it('while its prompt is read frees its slot', async () => {
    // Steps of the request before would hold the prompt back: a request that ends by its length leaves none but a close.
    const before = server.lines.length;
    await tokensOf(await predict('Once', { max_new_tokens: 2, ignore_eos_token: true }));
    await slotFreed('finished', before);
    // A stopped rank holds the prompt's step where it is.
    const stopped = server.workerPids[1]!;
    process.kill(stopped, 'SIGSTOP');
    const from = server.lines.length;
    try {
      const leave = new AbortController();
      const answer = predict('word '.repeat(300), { max_new_tokens: 20 }, leave.signal).catch(() => 'left');
      await server.line((line) => line.msg === 'slot taken', from);
      leave.abort();
      expect(await answer).toBe('left');
      expect(await slotFreed('cancelled', from)).toMatchObject({ newTokens: 0 });
    } finally {
      process.kill(stopped, 'SIGCONT');
    }
    const { ids } = await tokensOf(await predict('Once', { max_new_tokens: 3, ignore_eos_token: true }));
    expect(ids).toHaveLength(3);
  });
});

describe('a rank that is stopped', () => {
  it('stops the tokens, and lets them go on where they were', async () => {
    const stopped = server.workerPids[1]!;
    const parameters = { max_new_tokens: 300, do_sample: false, ignore_eos_token: true };
    const reference = (await tokensOf(await predict('The old', parameters))).ids;
    const ids: number[] = [];
    const reader = jsonLines(await predict('The old', parameters));
    const reading = (async () => {
      for await (const line of reader) ids.push((line.token as { id: number }).id);
    })();
    const roundTrips = async (count: number) => {
      for (let trip = 0; trip < count; trip++) await (await fetch(`${server.url}/ping`)).text();
    };
    try {
      process.kill(stopped, 'SIGSTOP');
      // What was on its way arrives with these; then nothing may come, though the server answers others.
      await roundTrips(20);
      const before = ids.length;
      await roundTrips(200);
      expect(ids.length).toBe(before);
      expect(before).toBeLessThan(300);
    } finally {
      process.kill(stopped, 'SIGCONT');
    }
    await reading;
    expect(ids).toEqual(reference);
  });
});

describe('a rank that is killed', () => {
  it('holds its streams up until a new group goes on with them, which serves the next request too', async () => {
    const from = server.lines.length;
    const [first, second] = server.workerPids;
    const response = await predict('Once', { max_new_tokens: 450, do_sample: false, ignore_eos_token: true });
    const reader = jsonLines(response);
    await reader.next();
    process.kill(second!, 'SIGKILL');
    const lines: Record<string, unknown>[] = [];
    for await (const line of reader) lines.push(line);
    expect(lines).toHaveLength(449);
    expect(JSON.stringify(lines.at(-1))).not.toMatch(/error/i);
    await server.line((line) => line.msg === 'worker group died', from);
    const { ids } = await tokensOf(await predict('Once', { max_new_tokens: 5, ignore_eos_token: true }));
    expect(ids).toHaveLength(5);
    expect(server.workerPids).not.toContain(first);
    expect(server.workerPids).not.toContain(second);
  });
});
