/** Layers: which value wins, and what is said about the rest. */
import { describe, expect, it } from 'vitest';
import { findKey } from '../../../../server/config/key-table.js';
import {
  applyLayers,
  argumentLayer,
  environmentLayer,
  type Layer,
} from '../../../../server/config/layers.js';
import { Problems } from '../../../../server/config/problems.js';

/** Entries as a file would give them, lines from 1. */
function layer(file: string, ...pairs: [string, string][]): Layer {
  return pairs.map(([key, text], index) => ({
    row: findKey(key)!,
    given: key,
    text,
    where: `${file}:${index + 1}`,
    baseFolder: '/',
  }));
}

function messageOf(problems: Problems): string {
  try {
    problems.throwIfAny();
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

describe('applyLayers', () => {
  it('lets the last layer win and tells where the value came from', () => {
    const problems = new Problems();
    const settings = applyLayers(
      [
        layer('root', ['job_queue_size', '10'], ['max_batch_delay', '1']),
        layer('model', ['job_queue_size', '20']),
      ],
      'model',
      problems,
    );
    expect(settings.get('jobQueueSize')).toMatchObject({ value: 20, where: 'model:1' });
    expect(settings.get('maxBatchDelayMs')).toMatchObject({ value: 1, where: 'root:2' });
    expect(messageOf(problems)).toBe('');
  });

  it('prefers the key to another name of it in the same layer, wherever they stand', () => {
    const both = layer('f', ['batch_size', '2'], ['max_dynamic_batch_size', '3']);
    expect(applyLayers([both], 'model', new Problems()).get('batchSize')?.value).toBe(2);
    const alias = layer('f', ['max_dynamic_batch_size', '3']);
    expect(applyLayers([alias], 'model', new Problems()).get('batchSize')?.value).toBe(3);
  });

  it('leaves keys of the other scope alone', () => {
    const mixed = layer('f', ['log_level', 'nonsense'], ['job_queue_size', '7']);
    const problems = new Problems();
    expect([...applyLayers([mixed], 'model', problems).keys()]).toEqual(['jobQueueSize']);
    expect(messageOf(problems)).toBe('');
  });

  it('names place, key, value and range of a bad value', () => {
    const problems = new Problems();
    applyLayers([layer('serving.properties', ['option.tensor_parallel_degree', '128'])], 'model', problems);
    expect(messageOf(problems)).toBe(
      'serving.properties:1: option.tensor_parallel_degree is 128; it must be a whole number from 1 to 64, or max',
    );
  });

  it('warns once of a key without effect, and refuses a key that would change the answers', () => {
    const problems = new Problems();
    const given = layer('f', ['option.load_format', 'auto'], ['option.enable_lora', 'true']);
    applyLayers([given], 'model', problems);
    applyLayers([given], 'model', problems);
    expect(problems.warnings).toEqual([
      'f:1: option.load_format has no effect here: safetensors are always what is read',
    ]);
    expect(messageOf(problems)).toBe(
      'f:2: option.enable_lora=true: LoRA adapters are not served in this version',
    );
  });

  it.each([
    ['option.enable_lora', 'False'],
    ['option.pipeline_parallel_degree', '1'],
    ['engine', 'deepspeed'],
    ['engine', 'Rubikon'],
    ['load_on_devices', '*'],
    ['load_on_devices', 'gpu0; 3'],
    ['option.entryPoint', 'djl_python.huggingface'],
    ['option.entryPoint', 'src/model.ts:Handler'],
    ['engine', 'handler'],
    ['option.task', 'text-generation'],
  ])('accepts %s=%s, which asks for nothing special', (key, text) => {
    const problems = new Problems();
    applyLayers([layer('f', [key, text])], 'model', problems);
    expect(messageOf(problems)).toBe('');
    expect(problems.warnings).toEqual([]);
  });

  it.each([
    ['engine', '/bin/sh', /it must be one of Rubikon, DeepSpeed, MPI, Python, OnnxRuntime/],
    ['load_on_devices', 'nc0', /it must be \*, cpu, -1, or GPUs like 0;1 or gpu0;gpu1/],
    ['option.gpu_memory_utilization', '1.1', /above 0 and at most 1/],
    ['option.entryPoint', '../model.ts', /custom Python handlers cannot run here; write it in TypeScript/],
    ['option.entryPoint', 'other.py', /custom Python handlers cannot run/],
    ['option.pipeline_parallel_degree', '2', /split by tensors only/],
    ['option.quantize', 'squeezellm', /must be int8, int4 or none/],
    ['option.output_formatter', '3p', /is not served/],
    ['option.dtype', 'fp8', /must be one of auto, fp32/],
  ])('refuses %s=%s with a sentence', (key, text, message) => {
    const problems = new Problems();
    applyLayers([layer('f', [key, text])], 'model', problems);
    expect(messageOf(problems)).toMatch(message);
    expect(messageOf(problems)).toContain(`f:1: ${key}`);
  });

  it.each([
    ['fp16', 'fp16'],
    ['float16', 'fp16'],
    ['bf16', 'bf16'],
    ['bfloat16', 'bf16'],
  ])('takes %s for weights of 16 bits, not for what auto chooses', (dtype, held) => {
    const problems = new Problems();
    const settings = applyLayers([layer('f', ['option.dtype', dtype])], 'model', problems);
    expect(settings.get('dtype')?.value).toBe(held);
    expect(problems.warnings).toEqual([]);
  });

  it('warns of a key of an earlier version that is no longer needed', () => {
    const problems = new Problems();
    applyLayers([layer('f', ['option.batch_weights', 'int8'])], 'model', problems);
    expect(problems.warnings).toEqual([
      'f:1: option.batch_weights has no effect here: one copy of the weights serves few tokens and many; the key is no longer needed',
    ]);
  });
});

describe('environmentLayer', () => {
  const settingsOf = (
    env: Record<string, string>,
    problems = new Problems(),
  ): Map<string, { value: unknown }> =>
    applyLayers([environmentLayer(env, '/', problems)], 'model', problems);

  it('prefers OPTION_ to the short name, and that to the alias, in whatever order they stand', () => {
    const all = { SM_NUM_GPUS: '8', OPTION_TENSOR_PARALLEL_DEGREE: '2', TENSOR_PARALLEL_DEGREE: '4' };
    expect(settingsOf(all).get('tensorParallelDegree')?.value).toBe(2);
    const two = { TENSOR_PARALLEL_DEGREE: '4', SM_NUM_GPUS: '8' };
    expect(settingsOf(two).get('tensorParallelDegree')?.value).toBe(4);
    expect(settingsOf({ SM_NUM_GPUS: '8' }).get('tensorParallelDegree')?.value).toBe(8);
  });

  it('ignores other programs, empty variables, and warns of one that only looks like ours', () => {
    const problems = new Problems();
    const env = { PATH: '/bin', TENSOR_PARALLEL_DEGREE: '', OPTION_DTYP: 'int4', SERVING_ZZZZZZZZZZZZZ: '1' };
    expect(settingsOf(env, problems).size).toBe(0);
    expect(problems.warnings).toEqual([
      'environment: OPTION_DTYP is not known here; did you mean OPTION_DTYPE?',
      'environment: SERVING_ZZZZZZZZZZZZZ is not known here',
    ]);
  });

  it('names the variable and the key that it sets in an error', () => {
    const problems = new Problems();
    settingsOf({ TENSOR_PARALLEL_DEGREE: 'many' }, problems);
    expect(messageOf(problems)).toBe(
      'environment: TENSOR_PARALLEL_DEGREE (option.tensor_parallel_degree) is many; it must be a whole number from 1 to 64, or max',
    );
  });

  it('never shows a secret', () => {
    const problems = new Problems();
    applyLayers(
      [environmentLayer({ SERVING_API_KEY: 'a blank before hf_secret' }, '/', problems)],
      'server',
      problems,
    );
    expect(messageOf(problems)).toMatch(/SERVING_API_KEY/);
    expect(messageOf(problems)).not.toContain('hf_secret');
  });
});

describe('argumentLayer', () => {
  it('leaves out what was not given', () => {
    const given = argumentLayer({ engine: 'MPI', load_on_devices: null }, 'load_models entry', '/');
    expect(given.map((entry) => entry.given)).toEqual(['engine']);
  });
});

describe('Problems', () => {
  it('reports at most twenty lines, each once', () => {
    const problems = new Problems();
    for (let index = 0; index < 25; index++) problems.error(`line ${index % 23}`);
    const lines = messageOf(problems).split('\n');
    expect(lines).toHaveLength(21);
    expect(lines.at(-1)).toBe('and 3 more');
  });
});
