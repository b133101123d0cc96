/** What people deploy by DJLServing's article on tensor parallelism: its archive as it stands, and its handler in TypeScript. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readGolden } from '../support/golden.js';
import { letterCheckpoint } from '../support/letter-checkpoint.js';
import { tarBytes } from '../support/model-store-bytes.js';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const GPTJ = letterCheckpoint('gptj');
const TINY_GPTJ = GPTJ.cases[0]!;

/** A model.py as such articles have it: a checkpoint, split by DeepSpeed, and transformers' pipeline over it. */
const modelPy = (name: string, sampling: string) => `
import os
import deepspeed
import torch
from djl_python import Input, Output
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

predictor = None


def get_model():
    degree = int(os.getenv("TENSOR_PARALLEL_DEGREE", "2"))
    rank = int(os.getenv("LOCAL_RANK", "0"))
    checkpoint = "${name}"
    model = AutoModelForCausalLM.from_pretrained(checkpoint, revision="float32", torch_dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = deepspeed.init_inference(
        model, mp_size=degree, dtype=model.dtype, replace_method="auto", replace_with_kernel_inject=True
    )
    return pipeline(task="text-generation", model=model, tokenizer=tokenizer, device=rank)


def handle(inputs: Input):
    global predictor
    if not predictor:
        predictor = get_model()
    if inputs.is_empty():
        # The server warms the model up with an empty request.
        return None
    data = inputs.get_as_string()
    result = predictor(data, ${sampling}, min_tokens=20, max_new_tokens=${TINY_GPTJ.newTokens})
    return Output().add(result)
`;

/** The same in TypeScript. */
const MODEL_TS = `
import { type Input, Output, pipeline } from 'shardserve/handler';

const predictor = await pipeline();

export async function handle(inputs: Input): Promise<Output | null> {
  if (inputs.isEmpty()) return null;
  const data = inputs.getAsString();
  if (data.startsWith('stream ')) return new Output().addStreamContent(predictor.model.stream(data.slice(7), { max_new_tokens: 8 }));
  if (data === 'wrong') {
    try { await predictor('x', { temperature: -1 }); } catch (error) { return new Output(409).add({ code: error.code, message: error.message }); }
  }
  const result = await predictor(data, { do_sample: false, min_tokens: 20, max_new_tokens: ${TINY_GPTJ.newTokens} });
  return new Output().add(result);
}
`;

/** TorchServe's shape: the model that it is bound to is the context's. */
const TORCH_TS = `
import { BaseHandler, type LanguageModel } from 'shardserve/handler';

export class Continue extends BaseHandler {
  async inference(texts: string[]) {
    const model = this.context.model as LanguageModel;
    return Promise.all(texts.map((text) => model.generate(text, { max_new_tokens: 8 })));
  }
}
`;

let scratch: string;
let server: ServerProcess;

const write = (name: string, files: Readonly<Record<string, string>>): string => {
  const folder = path.join(scratch, name);
  mkdirSync(folder, { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(path.join(folder, file), text);
  return folder;
};

/** `gpt-j.tar.gz`: the folder with its checkpoint. */
function archive(name: string, files: Readonly<Record<string, string>>): string {
  const folder = write(name, files);
  GPTJ.write(path.join(folder, 'checkpoint'));
  const entries = (
    readdirSync(folder, { recursive: true, withFileTypes: true }) as import('node:fs').Dirent[]
  )
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .map((file) => ({ name: file, content: readFileSync(path.join(folder, file)) }));
  const target = path.join(scratch, `${name}.tar.gz`);
  writeFileSync(target, gzipSync(tarBytes(entries)));
  return target;
}

/** A workflow whose last node is a language model. */
const FLOW = {
  name: 'flow',
  models: { story: { modelUrl: 'checkpoint', options: { dtype: 'fp32' } } },
  functions: { pre: 'functions.ts:pre' },
  workflow: { out: ['story', ['pre', 'in']] },
};
const FLOW_TS = `
import { type Input, Output } from 'shardserve/handler';
export const pre = (inputs: Input) =>
  inputs.isEmpty() ? null : new Output().add({ inputs: inputs.getAsString(), parameters: { max_new_tokens: 8 }, stream: true });
`;

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'articles-'));
  const flow = write('flow', { 'workflow.json': JSON.stringify(FLOW), 'functions.ts': FLOW_TS });
  GPTJ.write(path.join(flow, 'checkpoint'));
  server = await ServerProcess.start({
    SERVING_LOAD_MODELS: `embedded=${path.join(repositoryRoot, 'models', 'embedded')} ${flow}/workflow.json`,
    SERVING_DOWNLOAD_DIR: path.join(scratch, 'downloads'),
    SERVING_REGISTRATION_FOLDERS: scratch,
    TENSOR_PARALLEL_DEGREE: '2',
    ...{ OPTION_TRUST_REMOTE_CODE: 'true', OPTION_KV_CACHE_MEMORY_MB: '64' },
  });
});
afterAll(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

const register = (url: string, name?: string) =>
  fetch(
    `${server.url}/models?url=${encodeURIComponent(url)}${name === undefined ? '' : `&model_name=${name}`}`,
    { method: 'POST' },
  );
const ask = (name: string, body: string, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/predictions/${name}`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain', ...headers },
    body,
  });
const describeModel = async (name: string) =>
  (await (await fetch(`${server.url}/models/${name}`)).json()) as {
    models: { tensorParallelDegree: number }[];
  }[];

it('a workflow of the start streams the tokens of its last node', async () => {
  const body = TINY_GPTJ.prompt;
  const headers = { 'content-type': 'text/plain' };
  const response = await fetch(`${server.url}/wfpredict/flow`, { method: 'POST', headers, body });
  const lines = (await response.text()).trim().split('\n');
  const told = lines.map((line) => JSON.parse(line) as { token: { text: string }; generated_text?: string });
  expect(told.map(({ token }) => token.text).join('')).toBe(TINY_GPTJ.continued.slice(0, 8));
  expect([told.length, told.at(-1)!.generated_text]).toEqual([8, TINY_GPTJ.continued.slice(0, 8)]);
});

it('gpt-j.tar.gz with engine=Rubikon and a model.py registers, splits and answers a plain text as its pipeline does', async () => {
  const properties = 'engine=Rubikon\n';
  const url = archive('gpt-j', {
    'serving.properties': properties,
    'model.py': modelPy('./checkpoint', 'do_sample=True'),
  });
  const registered = await register(url);
  expect(await registered.text()).toMatch(/Model \\?"gpt_j\\?" registered/);
  const [{ models }] = (await describeModel('gpt_j')) as [Awaited<ReturnType<typeof describeModel>>[0]];
  expect(models[0]!.tensorParallelDegree).toBe(2);
  const response = await ask('gpt_j', TINY_GPTJ.prompt);
  const [answer, ...more] = (await response.json()) as { generated_text: string }[];
  expect(more).toEqual([]);
  expect(answer!.generated_text.startsWith(TINY_GPTJ.prompt)).toBe(true);
  expect(answer!.generated_text.length).toBeGreaterThanOrEqual(TINY_GPTJ.prompt.length + 20);
  // The request's own parameters win over those of model.py.
  const greedy = await server.post('/predictions/gpt_j', {
    inputs: TINY_GPTJ.prompt,
    parameters: { do_sample: false },
  });
  expect(await greedy.json()).toEqual({ generated_text: TINY_GPTJ.continued });
  expect((await fetch(`${server.url}/models/gpt_j`, { method: 'DELETE' })).status).toBe(200);
});

it('its answer is the tokens that transformers makes of the same checkpoint', async () => {
  const url = archive('greedy', { 'model.py': modelPy('checkpoint', 'do_sample=False') });
  expect((await register(url, 'greedy')).status).toBe(200);
  expect(await (await ask('greedy', TINY_GPTJ.prompt)).json()).toEqual([
    { generated_text: TINY_GPTJ.prompt + TINY_GPTJ.continued },
  ]);
  await fetch(`${server.url}/models/greedy`, { method: 'DELETE' });
});

it('a model.py that does more is told by its line, with the model.ts to begin with', async () => {
  const source = modelPy('checkpoint', 'do_sample=True').replace(
    '    result = predictor(',
    '    for word in data.split():\n        print(word)\n    result = predictor(',
  );
  const url = archive('more', { 'model.py': source });
  const response = await register(url, 'more');
  const { message } = (await response.json()) as { message: string };
  const line = source.split('\n').findIndex((text) => text.includes('for word')) + 1;
  expect(response.status).toBe(400);
  expect(message).toContain(`model.py:${line}: for word in data.split(): is not read`);
  expect(message).toContain("import { type Input, Output, pipeline } from 'shardserve/handler';");
});

it('the article’s handler in TypeScript asks the tensor-parallel model, and its worker goes with it', async () => {
  const url = archive('translated', {
    'serving.properties': 'engine=Handler\noption.model_id=checkpoint\noption.dtype=fp32\n',
    'model.ts': MODEL_TS,
  });
  expect(await (await register(url, 'translated')).text()).toMatch(/registered/);
  expect(await (await ask('translated', TINY_GPTJ.prompt)).json()).toEqual([
    { generated_text: TINY_GPTJ.prompt + TINY_GPTJ.continued },
  ]);
  expect(await (await ask('translated', `stream ${TINY_GPTJ.prompt}`)).text()).toBe(
    TINY_GPTJ.continued.slice(0, 8),
  );
  const wrong = await ask('translated', 'wrong');
  expect([wrong.status, await wrong.json()]).toEqual([
    409,
    { code: 'BAD_REQUEST', message: expect.stringMatching(/temperature/) },
  ]);
  const [{ models }] = (await describeModel('translated.model')) as [
    Awaited<ReturnType<typeof describeModel>>[0],
  ];
  expect(models[0]!.tensorParallelDegree).toBe(2);
  expect((await fetch(`${server.url}/models/translated`, { method: 'DELETE' })).status).toBe(200);
  expect((await fetch(`${server.url}/models/translated.model`)).status).toBe(404);
});

it('a handler of TorchServe’s shape has the checkpoint beside it as context.model', async () => {
  const folder = write('torch', { 'model.ts': TORCH_TS, 'serving.properties': 'option.dtype=fp32\n' });
  GPTJ.write(folder);
  expect(await (await register(folder, 'torch')).text()).toMatch(/registered/);
  const answer = (await (await ask('torch', TINY_GPTJ.prompt)).json()) as { text: string; newTokens: number };
  expect(answer).toMatchObject({ text: TINY_GPTJ.continued.slice(0, 8), newTokens: 8 });
});

it('a text is explained by the tokens of its prompt: complete, and from the log-probability that transformers gives it', async () => {
  const [prompt] = readGolden('gptj').prompts;
  const logits = Float64Array.from(readGolden('gptj').logits(prompt!, prompt!.ids.length - 1));
  const most = Math.max(...logits);
  const sum = logits.reduce((total, one) => total + Math.exp(one - most), 0);
  const wanted = logits[prompt!.greedyIds[0]!]! - most - Math.log(sum);
  const explain = async (query: string, body: object) => {
    const response = await server.post(`/explanations/torch.model?${query}`, body);
    const told = (await response.json()) as {
      tokens: string[];
      answer: string;
      importances: number[];
      score: number;
      base: number;
      message?: string;
    };
    expect([response.status, told.message]).toEqual([200, undefined]);
    return told;
  };
  const one = await explain('method=shapley&samples=4', {
    inputs: TINY_GPTJ.prompt,
    answer: TINY_GPTJ.continued[0],
  });
  expect(one.score).toBeCloseTo(wanted, 3);
  expect(one.tokens).toEqual([...TINY_GPTJ.prompt].slice(1));
  const total = one.importances.reduce((all, each) => all + each, 0);
  expect(Math.abs(total - (one.score - one.base))).toBeLessThan(1e-6);
  const own = await explain('method=occlusion', {
    inputs: TINY_GPTJ.prompt,
    parameters: { max_new_tokens: 4 },
  });
  expect([own.answer, own.importances.length]).toEqual([TINY_GPTJ.continued.slice(0, 4), 4]);
});
