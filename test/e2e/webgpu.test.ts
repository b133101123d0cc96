/**
 * A model that computes on a GPU, behind the running server: four streams by HTTP on a GPU in software, by a rank that is killed, are
 * transformers' texts; a closed socket frees its slot; and where there is no GPU the server says in words what is missing. (The embedded model, and
 * other formats, are test/long's.)
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { letterCheckpoint } from '../support/letter-checkpoint.js';
import { jsonLines, ServerProcess } from '../support/server-process.js';
import { SOFTWARE_VULKAN, WHY_NO_SOFTWARE_VULKAN } from '../support/software-vulkan.js';

const store = mkdtempSync(path.join(tmpdir(), 'webgpu-e2e-'));
afterAll(() => rmSync(store, { recursive: true }));
const why = WHY_NO_SOFTWARE_VULKAN === null ? '' : ` (skipped: ${WHY_NO_SOFTWARE_VULKAN})`;

const common = { SERVING_SHARD_STORE: store, OPTION_DTYPE: 'fp32', OPTION_DEVICE: 'webgpu' };

it('says in words that there is no GPU', async () => {
  const refused = await ServerProcess.start({
    ...common,
    VK_ICD_FILENAMES: '/nonexistent/driver.json',
  }).catch((error: Error) => error);
  expect(String(refused)).toContain('no GPU is to be had by Vulkan');
});

it.skipIf(WHY_NO_SOFTWARE_VULKAN !== null)(
  `four streams are transformers' texts also when a rank is killed, and a socket that closes frees its slot${why}`,
  async () => {
    const { cases, write } = letterCheckpoint('llama');
    const folder = path.join(store, 'letters');
    write(folder);
    const server = await ServerProcess.start({
      ...{ ...common, ...SOFTWARE_VULKAN, SERVING_LOAD_MODELS: `letters=${folder}` },
      ...{ TENSOR_PARALLEL_DEGREE: '1', OPTION_MAX_MODEL_LEN: '128', OPTION_MAX_ROLLING_BATCH_SIZE: '4' },
      ...{ OPTION_STEP_TIMEOUT: '600', RETRY_THRESHOLD: '10' },
    });
    try {
      const stream = (inputs: string, newTokens: number, signal?: AbortSignal) => {
        const parameters = { max_new_tokens: newTokens, do_sample: false, ignore_eos_token: true };
        return server.post('/predictions/letters', { inputs, parameters, stream: true }, signal);
      };
      const textOf = async (response: Response, onToken = (_: number): void => {}): Promise<string> => {
        let text = '';
        let tokens = 0;
        for await (const { token } of jsonLines(response)) {
          text += (token as { text: string } | undefined)?.text ?? '';
          onToken(++tokens);
        }
        return text;
      };
      const [short, medium, long] = cases.map(({ continued, prompt }) => ({ continued, prompt }));
      const [killed] = server.workerPids;
      const leave = new AbortController();
      const left = stream(short!.prompt, 100, leave.signal).then((response) =>
        textOf(response, (tokens) => {
          if (tokens === 2) leave.abort();
        }).catch(() => 'left'),
      );
      const streams = [short!, medium!, long!].map(async ({ continued, prompt }) => ({
        text: await textOf(await stream(prompt, 10), (tokens) => {
          if (prompt === medium!.prompt && tokens === 4) process.kill(killed!, 'SIGKILL');
        }),
        expected: continued.slice(0, 10),
      }));
      expect(await left).toBe('left');
      for (const { expected, text } of await Promise.all(streams)) expect(text).toBe(expected);

      const ends = (how: string) =>
        server.lines.filter((line) => line.msg === 'slot freed' && line.why === how);
      await server.until(() => ends('finished').length === 3, 'three ends');
      expect(ends('cancelled')).toHaveLength(1);
      expect(ends('lost').length).toBeGreaterThan(0);
      expect(server.lines.some(({ msg }) => msg.startsWith('computed on webgpu'))).toBe(true);
      expect(server.workerPids).not.toContain(killed);
    } finally {
      await server.stop();
    }
  },
);
