/**
 * One server with four models at once, each of another engine: registered, scaled, described, asked together, unregistered, all over HTTP.
 * Every request has an answer of its own, so that one that is lost or swapped is seen.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OnnxWriter } from '../../partitioner/graph/onnx-writer.js';
import { script, type Traced, text, trace } from '../../pipeline/pipeline-api.js';
import { letterCheckpoint } from '../support/letter-checkpoint.js';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const CLIENTS = 24;
const CLASSES = 3;
const HANDLER = `
import { type Input, Output } from 'shardserve/handler';
export async function handle(inputs: Input): Promise<Output | null> {
  if (inputs.isEmpty()) return null;
  const output = new Output();
  for (const [index, one] of inputs.getBatches().entries()) output.add({ echo: one.getAsString() }, null, index);
  return output;
}`;

/** x [n, 2] → the chances of CLASSES that are 0, x0 and x1 */
function classifier(): Uint8Array {
  const graph = new OnnxWriter('classifier');
  const x = graph.input('x', 'float32', ['n', 2]);
  const logits = graph.node('Gemm', [x, graph.floats('w', [0, 1, 0, 0, 0, 1], [2, 3])], ['logits']);
  graph.node('Softmax', [logits], ['chances']);
  graph.output('chances', 'float32', ['n', CLASSES]);
  return graph.encode('test');
}

interface Question {
  model: string;
  body: string;
  type: string;
  /** Throws where the answer is another's. */
  check(text: string): void;
}

export function fourModelsSuite(requests: number): void {
  describe('one server with four models', () => {
    const LLAMA = letterCheckpoint('llama');
    let scratch: string;
    let server: ServerProcess;

    beforeAll(async () => {
      scratch = mkdtempSync(path.join(tmpdir(), 'four-models-'));
      LLAMA.write(path.join(scratch, 'llama'));
      for (const name of ['classes', 'echo']) mkdirSync(path.join(scratch, name));
      writeFileSync(path.join(scratch, 'classes', 'model.onnx'), classifier());
      writeFileSync(path.join(scratch, 'echo', 'model.ts'), HANDLER);
      const [cut, ids] = [text.split(), text.vocabulary(['zero', 'one', 'two', '[UNK]'])];
      const count = script((words: string[]) => words.length);
      const pipeline = await trace((words: Traced) => ({ ids: ids(cut(words)), count: count(cut(words)) }), {
        words: 'one two',
      });
      await pipeline.save(path.join(scratch, 'words'));
      server = await ServerProcess.start({
        // The start is told by a model.
        SERVING_LOAD_MODELS: `first=${path.join(repositoryRoot, 'models', 'embedded')}`,
        SERVING_REGISTRATION_FOLDERS: scratch,
        ...{ OPTION_DTYPE: 'fp32', OPTION_KV_CACHE_MEMORY_MB: '64', SERVING_JOB_QUEUE_SIZE: '1000' },
      });
    });
    afterAll(async () => {
      await server?.stop();
      rmSync(scratch, { recursive: true, force: true });
    });

    const manage = async (method: string, target: string) => {
      const response = await fetch(`${server.url}${target}`, { method });
      return { status: response.status, body: (await response.json()) as never };
    };
    const NAMES = ['llama', 'classes', 'echo', 'words'];

    it('registers each of them', async () => {
      const more: Record<string, string> = {
        classes: '&batch_size=8&max_batch_delay=2',
        echo: '&batch_size=4&max_batch_delay=2',
        words: '&batch_size=4&max_batch_delay=2',
      };
      writeFileSync(path.join(scratch, 'llama', 'serving.properties'), 'option.tensor_parallel_degree=2\n');
      for (const name of NAMES) {
        const url = encodeURIComponent(path.join(scratch, name));
        const { body, status } = await manage(
          'POST',
          `/models?url=${url}&model_name=${name}${more[name] ?? ''}`,
        );
        expect([status, body]).toEqual([200, { status: `Model "${name}" registered.` }]);
      }
    });

    it('scales and describes them', async () => {
      for (const name of ['classes', 'echo', 'words'])
        expect((await manage('PUT', `/models/${name}?min_worker=2&max_worker=2`)).status).toBe(200);
      const wanted = { llama: 1, classes: 2, echo: 2, words: 2 };
      for (const [name, workers] of Object.entries(wanted)) {
        const described = async () =>
          (await manage('GET', `/models/${name}`)).body as {
            models: { status: string; workerGroups: { workers: { status: string; ranks: unknown[] }[] }[] }[];
          }[];
        // A group starts for as long as it takes: each answer of the server is the next event to wait for.
        let model = (await described())[0]!.models[0]!;
        while (model.workerGroups[0]!.workers.filter(({ status }) => status === 'READY').length < workers)
          model = (await described())[0]!.models[0]!;
        expect(model.status).toBe('Healthy');
        expect(model.workerGroups[0]!.workers[0]!.ranks).toHaveLength(name === 'llama' ? 2 : 1);
      }
    });

    const json = 'application/json';
    const QUESTIONS: ((index: number) => Question)[] = [
      (index) => {
        const { continued, prompt } = LLAMA.cases[index % LLAMA.cases.length]!;
        const tokens = 1 + (index % 6);
        return {
          ...{ model: 'llama', type: json },
          body: JSON.stringify({ inputs: prompt, parameters: { max_new_tokens: tokens } }),
          check: (answer) =>
            expect(JSON.parse(answer)).toEqual({ generated_text: continued.slice(0, tokens) }),
        };
      },
      (index) => {
        const row = [index / 1000, -index / 500];
        const powers = [0, ...row].map(Math.exp);
        const sum = powers.reduce((total, one) => total + one, 0);
        return {
          ...{ model: 'classes', type: json, body: JSON.stringify({ inputs: { x: [row] } }) },
          check: (answer) => {
            const { chances } = JSON.parse(answer) as { chances: number[][] };
            powers.forEach((power, at) => {
              expect(chances[0]![at]).toBeCloseTo(power / sum, 5);
            });
          },
        };
      },
      (index) => ({
        ...{ model: 'echo', type: 'text/plain', body: `request ${index}` },
        check: (answer) => expect(JSON.parse(answer)).toEqual({ echo: `request ${index}` }),
      }),
      (index) => {
        const words = Array.from(
          { length: 1 + (index % 7) },
          (_, at) => ['zero', 'one', 'two'][(index >> at) % 3]!,
        );
        return {
          ...{ model: 'words', type: json, body: JSON.stringify({ words: words.join(' ') }) },
          check: (answer) =>
            expect(JSON.parse(answer)).toEqual({
              ids: words.map((word) => ['zero', 'one', 'two'].indexOf(word)),
              count: words.length,
            }),
        };
      },
    ];

    it(`answers ${requests} mixed requests, none lost, none swapped`, async () => {
      let next = 0;
      let answered = 0;
      const client = async (): Promise<void> => {
        for (let index = next++; index < requests; index = next++) {
          const { body, check, model, type } = QUESTIONS[index % QUESTIONS.length]!(index);
          const response = await fetch(`${server.url}/predictions/${model}`, {
            ...{ method: 'POST', body, headers: { 'content-type': type } },
          });
          const answer = await response.text();
          expect(response.status, `${model} ${index}: ${answer}`).toBe(200);
          check(answer);
          answered += 1;
        }
      };
      await Promise.all(Array.from({ length: CLIENTS }, client));
      expect(answered).toBe(requests);
    });

    it('unregisters each, and the others serve on', async () => {
      for (const [at, name] of NAMES.entries()) {
        expect((await manage('DELETE', `/models/${name}`)).status).toBe(200);
        expect((await manage('GET', `/models/${name}`)).status).toBe(404);
        const left = NAMES[at + 1];
        if (left === undefined) continue;
        const { body, check, type } = QUESTIONS[at + 1]!(at + 1);
        const response = await fetch(`${server.url}/predictions/${left}`, {
          ...{ method: 'POST', body, headers: { 'content-type': type } },
        });
        check(await response.text());
      }
    });
  });
}
