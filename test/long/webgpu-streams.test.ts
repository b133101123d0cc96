/**
 * Streams on a GPU in software, at length: by the batch loop in all formats, and in too little memory; and a server whose embedded model streams what
 * the CPU gives: four at once, with a form, with log-probabilities, behind a shared prefix, when one is left and when a rank is killed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebgpuDevice } from '../../shard-worker/device/webgpu-device.js';
import { deviceStreamsSuite } from '../suites/device-streams.suite.js';
import { describeOnSoftwareVulkan } from '../support/on-software-vulkan.js';
import { parsePrometheus, sampleValue } from '../support/prometheus-text.js';
import { ServerProcess } from '../support/server-process.js';
import { SOFTWARE_VULKAN, useSoftwareVulkan } from '../support/software-vulkan.js';

const store = mkdtempSync(path.join(tmpdir(), 'webgpu-streams-'));
afterAll(() => rmSync(store, { recursive: true }));

describeOnSoftwareVulkan('webgpu', () => {
  let device: WebgpuDevice;
  beforeAll(() => {
    useSoftwareVulkan();
    device = new WebgpuDevice({ logId: 'long' });
  });

  deviceStreamsSuite({
    device: () => device,
    cases: (['fp32', 'fp16', 'int8', 'int4'] as const).flatMap((dtype) =>
      [1, 2].map((tp) => ({ tp, dtype })),
    ),
    preempts: ({ dtype }) => dtype === 'fp32',
  });
});

const STORY =
  'Once upon a time there was a little girl who lived in a small house near the forest. One day she met an old man who ';
const PROMPTS = [
  STORY,
  'Once upon a time there was a king',
  'The old woman said',
  `${STORY}had a red bird. The bird`,
];
const NEW_TOKENS = 14;

interface Completion {
  text: string;
  logprobs: { token_logprobs: number[] } | null;
}

/** What a client of the embedded model sees. */
class Client {
  readonly #server: ServerProcess;

  constructor(server: ServerProcess) {
    this.#server = server;
  }

  static async start(
    environment: Record<string, string>,
  ): Promise<{ client: Client; server: ServerProcess }> {
    const server = await ServerProcess.start({
      ...{ SERVING_SHARD_STORE: store, OPTION_MAX_MODEL_LEN: '128', OPTION_MAX_ROLLING_BATCH_SIZE: '4' },
      ...{ OPTION_STEP_TIMEOUT: '600', RETRY_THRESHOLD: '10', ...environment },
    });
    return { server, client: new Client(server) };
  }

  async complete(prompt: string, more: object = {}): Promise<Completion> {
    const response = await this.#server.post('/v1/completions', this.#body(prompt, more));
    expect(response.status).toBe(200);
    return ((await response.json()) as { choices: Completion[] }).choices[0]!;
  }

  /** @param onEvent called with the number of events that have come; an abort of `signal` ends it as the client's doing */
  async stream(prompt: string, onEvent = (_: number): void => {}, signal?: AbortSignal): Promise<string> {
    const body = this.#body(prompt, { stream: true });
    const response = await this.#server.post('/v1/completions', body, signal);
    expect(response.status).toBe(200);
    let text = '';
    let events = 0;
    for await (const line of createInterface({ input: Readable.fromWeb(response.body as never) })) {
      if (!line.startsWith('data: {')) continue;
      text += (JSON.parse(line.slice(6)) as { choices: { text: string }[] }).choices[0]?.text ?? '';
      onEvent(++events);
    }
    return text;
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.#server.url}/metrics`)).text();
    const labels = { model: 'embedded', version: '' };
    return sampleValue(parsePrometheus(text), `shardserve_${name}`, labels) ?? Number.NaN;
  }

  #body(prompt: string, more: object): object {
    return { model: 'embedded', prompt, max_tokens: NEW_TOKENS, temperature: 0, ignore_eos: true, ...more };
  }
}

const FORM = { guided_regex: '( [a-z]{1,9},){3}', ignore_eos: false };
const SAMPLED = { temperature: 1, seed: 7, repetition_penalty: 1.2 };

/** Each request by itself. */
async function allOf(client: Client) {
  const texts: string[] = [];
  for (const prompt of PROMPTS) texts.push((await client.complete(prompt)).text);
  return {
    texts,
    formed: (await client.complete(STORY, FORM)).text,
    sampled: (await client.complete(STORY, SAMPLED)).text,
    logprobs: (await client.complete('A cat', { logprobs: 2 })).logprobs!.token_logprobs,
  };
}

describeOnSoftwareVulkan('a server on webgpu', () => {
  let expected: Record<string, Awaited<ReturnType<typeof allOf>>>;
  beforeAll(async () => {
    expected = {};
    for (const dtype of ['fp32', 'int8']) {
      const { client, server } = await Client.start({ OPTION_DTYPE: dtype });
      expected[dtype] = await allOf(client).finally(() => server.stop());
    }
  });

  const CASES = [
    ['1', 'fp32'],
    ['2', 'fp32'],
    ['2', 'int8'],
  ] as const;
  it.each(CASES)('over %s ranks in %s gives what the CPU gives', async (tp, dtype) => {
    const { client, server } = await Client.start({
      ...{ ...SOFTWARE_VULKAN, OPTION_DEVICE: 'webgpu', TENSOR_PARALLEL_DEGREE: tp, OPTION_DTYPE: dtype },
    });
    try {
      expect(server.lines.some(({ msg }) => msg.startsWith('computed on webgpu'))).toBe(true);
      const seen = await allOf(client);
      const wanted = dtype === 'fp32' ? expected[dtype]! : seen;
      expect({ ...seen, logprobs: null }).toEqual({ ...wanted, logprobs: null });
      expect(seen.formed).toMatch(/^( [a-z]{1,9},){3}$/);
      seen.logprobs.forEach((logprob, at) => {
        expect(Math.abs(logprob - wanted.logprobs[at]!)).toBeLessThan(1e-3);
      });

      // The story was there when the last prompt came; all come again at once, and one leaves.
      expect(await client.metric('prefix_cache_hit_tokens_total')).toBeGreaterThan(20);
      const from = server.lines.length;
      const leave = new AbortController();
      const together = PROMPTS.map((prompt, at) =>
        at === 2
          ? client.stream(prompt, (events) => events === 3 && leave.abort(), leave.signal).catch(() => 'left')
          : client.stream(prompt),
      );
      expect(await Promise.all(together)).toEqual(wanted.texts.map((text, at) => (at === 2 ? 'left' : text)));
      await server.line(({ msg, why: how }) => msg === 'slot freed' && how === 'cancelled', from);

      const killed = server.workerPids.at(-1)!;
      const disturbed = PROMPTS.map((prompt, at) =>
        client.stream(prompt, (events) => at === 1 && events === 4 && process.kill(killed, 'SIGKILL')),
      );
      expect(await Promise.all(disturbed)).toEqual(wanted.texts);
      expect(server.workerPids).not.toContain(killed);
      expect(await client.metric('requests_resumed_total')).toBeGreaterThan(0);
    } finally {
      await server.stop();
    }
  });
});
