/** Workflows of three servers as one graph, and what of them is refused; how its nodes run. */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { parsePbtxt } from '../../../../server/config/pbtxt.js';
import type { NodeCall, NodeValue } from '../../../../server/requests/workflows.js';
import { djlWorkflow } from '../../../../server/workflows/djl-workflow.js';
import { runWorkflow } from '../../../../server/workflows/run-workflow.js';
import { torchServeWorkflow, warFiles } from '../../../../server/workflows/torchserve-workflow.js';
import { tritonEnsemble } from '../../../../server/workflows/triton-ensemble.js';
import { checkedSpec, type WorkflowSpec } from '../../../../server/workflows/workflow-spec.js';

const SPEC = {
  models: {
    'batch-size': 4,
    'retry-attempts': 2,
    dogs: { url: 'dogs.mar' },
    cats: { url: 'cats.mar', 'batch-size': 2, 'timeout-ms': 500, 'retry-attempts': 0 },
  },
  dag: { pre: ['dogs', 'cats'], dogs: ['join'], cats: ['join'] },
};

describe('TorchServe’s specification', () => {
  it('is models with their defaults, functions of the handler, and edges', () => {
    const spec = checkedSpec(torchServeWorkflow(SPEC, 'animals', 'handler.ts'));
    expect(spec.nodes).toEqual([
      {
        name: 'pre',
        uses: 'pre',
        inputs: [{ as: '', from: { node: null, tensor: null } }],
        timeoutMs: 10_000,
        attempts: 3,
      },
      {
        name: 'dogs',
        uses: 'dogs',
        inputs: [{ as: '', from: { node: 'pre', tensor: null } }],
        timeoutMs: 10_000,
        attempts: 3,
      },
      {
        name: 'cats',
        uses: 'cats',
        inputs: [{ as: '', from: { node: 'pre', tensor: null } }],
        timeoutMs: 500,
        attempts: 1,
      },
      {
        ...{ name: 'join', uses: 'join', timeoutMs: 10_000, attempts: 3 },
        inputs: ['dogs', 'cats'].map((node) => ({ as: node, from: { node, tensor: null } })),
      },
    ]);
    expect(spec.models.map(({ keys, name }) => [name, keys])).toEqual([
      ['dogs', { batch_size: '4', max_batch_delay: '50' }],
      ['cats', { batch_size: '2', max_batch_delay: '50' }],
    ]);
    expect(spec.functions).toEqual([
      { name: 'pre', file: 'handler.ts', exported: 'pre' },
      { name: 'join', file: 'handler.ts', exported: 'join' },
    ]);
    expect(spec.outputs.map(({ name }) => name)).toEqual(['join']);
  });

  it.each([
    [{ ...SPEC, dag: { ...SPEC.dag, join: ['pre'] } }, 'handler.ts', /no output|cycle with target/],
    [{ ...SPEC, dag: { pre: ['dogs'], dogs: ['pre', 'cats'] } }, 'handler.ts', /cycle with target: dogs/],
    [SPEC, null, /pre, join of its dag are no models, and its manifest names no handler file/],
    [SPEC, 'handler.py', /handler\.py is Python/],
    [SPEC, '../handler.ts', /is no \.ts/],
    [{ models: SPEC.models }, 'handler.ts', /has no dag/],
    [{ ...SPEC, models: { dogs: {} } }, 'handler.ts', /model dogs has no url/],
    [
      { ...SPEC, models: { dogs: { url: 'x', 'timeout-ms': 0 } } },
      'handler.ts',
      /timeout-ms of node dogs is 0/,
    ],
    [
      { ...SPEC, models: { dogs: { url: 'x', 'retry-attempts': 10 } } },
      'handler.ts',
      /attempts of node dogs is 11/,
    ],
  ])('%j is refused', (spec, handler, words) => {
    expect(() => checkedSpec(torchServeWorkflow(spec, null, handler))).toThrow(words);
  });

  it('is named by the manifest', () => {
    expect(warFiles({ workflow: { workflowName: 'w', specFile: 's.yaml', handler: 'h.ts' } })).toEqual({
      ...{ name: 'w', specFile: 's.yaml', handler: 'h.ts' },
    });
    expect(() => warFiles({})).toThrow(/names no specFile/);
  });
});

describe('DJLServing’s workflow.json', () => {
  const given = {
    name: 'w',
    models: {
      m: 'file:///m',
      n: { modelUrl: 'n', batchSize: 8, options: { dtype: 'fp32' }, timeoutMillis: 70 },
    },
    functions: { pre: 'functions.ts:first' },
    workflow: { mid: ['pre', 'in'], out: ['n', ['m', 'mid'], 'mid', ['identity', 'in']] },
  };

  it('is calls inside each other, each variable once', () => {
    const spec = checkedSpec(djlWorkflow(given));
    expect(spec.nodes.map(({ name, uses }) => [name, uses])).toEqual([
      ['mid', 'pre'],
      ['out.1', 'm'],
      ['out', 'n'],
    ]);
    expect(spec.nodes[2]).toMatchObject({
      inputs: [
        { as: 'out.1', from: { node: 'out.1' } },
        { as: 'mid', from: { node: 'mid' } },
        { as: 'out.3', from: { node: null } },
      ],
      timeoutMs: 70,
    });
    expect(spec.models[1]).toMatchObject({ keys: { batch_size: '8', 'option.dtype': 'fp32' } });
    expect(spec.functions).toEqual([{ name: 'pre', file: 'functions.ts', exported: 'first' }]);
  });

  it.each([
    [{ workflow: { out: ['m', 'x'], x: ['m', 'out'] } }, /cycle with target: out/],
    [{ workflow: { out: ['m', 'y'] } }, /Expected to find variable but it is not defined: y/],
    [{ workflow: {} }, /not defined: out/],
    [{ workflow: { out: ['z', 'in'] } }, /uses z, which is neither/],
    [{ workflow: { out: ['ensemble', 'in'] } }, /ensemble of out is not served/],
    [{ functions: { pre: 'com.acme.Pre' } }, /is a Java class, com\.acme\.Pre/],
    [{ models: { m: {} } }, /model m has no modelUrl/],
  ])('%j is refused', (more, words) => {
    expect(() => checkedSpec(djlWorkflow({ ...given, ...more }))).toThrow(words);
  });
});

describe('Triton’s ensemble', () => {
  const step = (model: string, from: string, to: string) =>
    `{ model_name: "${model}" model_version: -1 input_map { key: "x" value: "${from}" } output_map { key: "y" value: "${to}" } }`;
  const config = (...steps: string[]) =>
    parsePbtxt(`
      name: "both" platform: "ensemble" max_batch_size: 4
      input [ { name: "a" data_type: TYPE_FP32 dims: [ 3 ] } ]
      output [ { name: "c" data_type: TYPE_STRING dims: [ 1 ] } ]
      ensemble_scheduling { step [ ${steps.join(', ')} ] }`);

  it('is steps joined by their tensors', () => {
    const spec = checkedSpec(tritonEnsemble(config(step('two', 'b', 'c'), step('one', 'a', 'b'))));
    expect(spec.nodes.map(({ inputs, name }) => [name, inputs])).toEqual([
      ['1-one', [{ as: 'x', from: { node: null, tensor: 'a' } }]],
      ['0-two', [{ as: 'x', from: { node: '1-one', tensor: 'y' } }]],
    ]);
    expect(spec.signature).toEqual({
      inputs: [{ name: 'a', type: 'FP32', shape: [-1, 3] }],
      outputs: [{ name: 'c', type: 'BYTES', shape: [-1, 1] }],
    });
    expect(spec.models).toEqual(
      ['two', 'one'].map((name) => ({ name, url: `../${name}`, keys: {}, mayBeThere: true })),
    );
  });

  it.each([
    [[step('one', 'a', 'b')], /output c takes tensor c, which no step gives/],
    [[step('one', 'a', 'c'), step('two', 'a', 'c')], /tensor c is given twice/],
    [[step('../one', 'a', 'c')], /a step has no model_name/],
    [[step('one', 'c', 'c')], /cycle with target/],
  ])('%j is refused', (steps, words) => {
    expect(() => checkedSpec(tritonEnsemble(config(...steps)))).toThrow(words);
  });
});

describe('a run', () => {
  const content = (text: string): NodeValue => ({
    kind: 'content',
    parts: [{ key: '', bytes: Buffer.from(text), contentType: 'text/plain' }],
  });
  const shown = (value: NodeValue): string =>
    value.kind === 'content'
      ? value.parts.map(({ bytes, key }) => `${key}=${Buffer.from(bytes).toString()}`).join('&')
      : '';
  const spec = checkedSpec(torchServeWorkflow(SPEC, null, 'h.ts'));
  const run = (call: NodeCall, given: Pick<WorkflowSpec, 'nodes' | 'outputs'> = spec) =>
    runWorkflow(content('in'), {
      ...{ nodes: given.nodes, outputs: given.outputs, modelOf: (uses: string) => uses, call },
      signal: new AbortController().signal,
    });

  it('gives each node what it waits for, branches beside each other', async () => {
    const running = new Set<string>();
    let most = 0;
    const bothRun: (() => void)[] = [];
    const answer = await run(async (model, value) => {
      running.add(model);
      most = Math.max(most, running.size);
      // The branches wait for each other: one after the other would never end.
      if (model === 'dogs' || model === 'cats') {
        await new Promise<void>((resolve) => {
          bothRun.push(resolve);
          if (bothRun.length === 2) for (const go of bothRun) go();
        });
      }
      running.delete(model);
      return content(`${model}(${shown(value)})`);
    });
    expect(most).toBe(2);
    expect(answer.kind === 'one' && shown(answer.value)).toBe(
      '=join(dogs=dogs(=pre(=in))&cats=cats(=pre(=in)))',
    );
  });

  it('tries again what may pass, as often as it may, and names the node that fails', async () => {
    const tries: string[] = [];
    const failing = (code: 'WORKER_FAILED' | 'BAD_REQUEST', name: string) => async (model: string) => {
      tries.push(model);
      if (model === name) throw new ServingError(code, 'no');
      return content(model);
    };
    await expect(run(failing('WORKER_FAILED', 'dogs'))).rejects.toMatchObject({
      ...{ code: 'WORKER_FAILED', message: 'Node dogs: no' },
    });
    expect(tries.filter((one) => one === 'dogs')).toHaveLength(3);
    tries.length = 0;
    await expect(run(failing('WORKER_FAILED', 'cats'))).rejects.toThrow('Node cats: no');
    await expect(run(failing('BAD_REQUEST', 'pre'))).rejects.toThrow('Node pre: no');
    expect(tries.filter((one) => one === 'cats')).toHaveLength(1);
    expect(tries.filter((one) => one === 'join')).toHaveLength(0);
  });

  it('with several outputs answers by their names', async () => {
    const two = checkedSpec(torchServeWorkflow({ ...SPEC, dag: { pre: ['dogs', 'cats'] } }, null, 'h.ts'));
    const answer = await run(async (model) => content(model), two);
    expect(answer.kind === 'named' && Object.keys(answer.values)).toEqual(['dogs', 'cats']);
  });
});
