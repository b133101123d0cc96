/** Streams of the real server over the death of a rank: a pause, then the text that an undisturbed run gives. */
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parsePrometheus, sampleValue } from '../support/prometheus-text.js';
import { jsonLines, type LogLine, ServerProcess } from '../support/server-process.js';

const PROMPT =
  'Once upon a time there was a little girl who lived in a small house near the forest. One day she';
let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start({ TENSOR_PARALLEL_DEGREE: '2', RETRY_THRESHOLD: '100' });
});
afterAll(() => server?.stop());

interface Token {
  token: { id: number; text: string; log_prob: number };
}

const predict = (parameters: object, stream = true, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/predictions/embedded`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ inputs: PROMPT, stream, parameters: { details: true, ...parameters } }),
  });

/** Ids, texts and log-probabilities as they came, and the last line. `onToken` is called with the number of tokens so far. */
async function read(response: Response, onToken: (count: number) => void = () => {}) {
  const tokens: Token['token'][] = [];
  let last: Record<string, unknown> = {};
  for await (const line of jsonLines(response)) {
    last = line;
    if (line.token === undefined) continue;
    tokens.push((line as unknown as Token).token);
    onToken(tokens.length);
  }
  return { tokens, last };
}

const REQUESTS = {
  greedy: { max_new_tokens: 120, do_sample: false, ignore_eos_token: true },
  sampled: { max_new_tokens: 120, do_sample: true, temperature: 1, seed: 7, ignore_eos_token: true },
  penalised: {
    max_new_tokens: 120,
    do_sample: true,
    seed: 3,
    repetition_penalty: 1.3,
    top_k: 40,
    ignore_eos_token: true,
  },
  stopped: { max_new_tokens: 120, do_sample: false, stop: ['qqqq', '. The'], ignore_eos_token: true },
};

it.each([
  ['is killed', 'SIGKILL', 1],
  ['is killed that talks to the server', 'SIGKILL', 0],
  ['is stopped for good', 'SIGSTOP', 1],
] as const)('when a rank %s all streams go on with the same text', async (_, signal, rank) => {
  const undisturbed = await Promise.all(
    Object.values(REQUESTS).map(async (parameters) => read(await predict(parameters))),
  );
  const from = server.lines.length;
  let killed = false;
  const disturbed = await Promise.all(
    Object.values(REQUESTS).map(async (parameters) =>
      read(await predict(parameters), (count) => {
        if (killed || count < 10) return;
        killed = true;
        process.kill(server.workerPids[rank]!, signal);
      }),
    ),
  );
  expect(server.lines.slice(from).filter(({ msg }) => msg === 'worker group died')).toHaveLength(1);
  expect(server.lines.slice(from).filter(({ why }) => why === 'lost').length).toBeGreaterThan(0);
  for (const [index, name] of Object.keys(REQUESTS).entries())
    expect([name, disturbed[index]]).toEqual([name, undisturbed[index]]);
});

it('an answer of a given form goes on in that form', async () => {
  const ask = async (onChunk: () => void): Promise<string> => {
    const response = await server.post('/v1/completions', {
      ...{ model: 'embedded', prompt: PROMPT, temperature: 0, max_tokens: 150, stream: true },
      guided_regex: '( [a-z]{1,9},){60}',
    });
    let text = '';
    const reader = createInterface({ input: Readable.fromWeb(response.body as never) });
    for await (const line of reader) {
      if (!line.startsWith('data: {')) continue;
      const { choices } = JSON.parse(line.slice(6)) as { choices: { text: string }[] };
      text += choices[0]?.text ?? '';
      onChunk();
    }
    return text;
  };
  const undisturbed = await ask(() => {});
  expect(undisturbed).toMatch(/^( [a-z]{1,9},){5}/);
  const from = server.lines.length;
  let chunks = 0;
  const disturbed = await ask(() => {
    if (++chunks === 20) process.kill(server.workerPids[1]!, 'SIGKILL');
  });
  expect(server.lines.slice(from).filter(({ why }) => why === 'lost')).toHaveLength(1);
  expect(disturbed).toBe(undisturbed);
});

it('whole answers and asynchronous ones likewise, and the metrics count what went on', async () => {
  const whole = (id: string, headers: Record<string, string> = {}) =>
    predict(REQUESTS.sampled, false, { 'x-request-id': id, ...headers });
  const undisturbed = await (await whole('undisturbed')).json();
  const answer = whole('at once');
  const started = await whole('later', { 'x-synchronous': 'false' });
  const token = started.headers.get('x-next-token')!;
  const both = (fits: (line: LogLine) => boolean) => () =>
    ['at once', 'later'].every((id) => server.lines.some((line) => line.requestId === id && fits(line)));
  await server.until(
    both(({ msg }) => msg === 'slot taken'),
    'two slots',
  );
  process.kill(server.workerPids[1]!, 'SIGKILL');
  expect(await (await answer).json()).toEqual(undisturbed);
  await server.until(
    both(({ why }) => why === 'finished'),
    'two answers',
  );
  const lost = server.lines.filter(({ why }) => why === 'lost').length;
  expect(lost).toBeGreaterThan(0);
  const poll = () =>
    fetch(`${server.url}/predictions/embedded`, { method: 'POST', headers: { 'x-starting-token': token } });
  let polled = await poll();
  // The answer is put together a moment after its last token.
  while (polled.status === 202) polled = await poll();
  expect(await polled.json()).toEqual(undisturbed);
  const metrics = parsePrometheus(await (await fetch(`${server.url}/metrics`)).text());
  const labels = { model: 'embedded', version: '' };
  expect(sampleValue(metrics, 'shardserve_requests_resumed_total', labels)).toBeGreaterThanOrEqual(lost);
});
