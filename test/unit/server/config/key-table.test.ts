/** The key table: complete against the reference, consistent in itself. */
import { describe, expect, it } from 'vitest';
import {
  defaultsOf,
  findEnvironment,
  findKey,
  KEY_TABLE,
  misspeltOption,
  nearestEnvironment,
  nearestKey,
  targetOf,
} from '../../../../server/config/key-table.js';
import {
  CONFIG_PROPERTIES,
  ENGINE_OPTIONS,
  ENVIRONMENT,
  OPTIONS,
  SERVING_PROPERTIES,
} from './reference-keys.js';

describe('key table', () => {
  it('has a row for every key of DJLServing and LMI', () => {
    const options = OPTIONS.map((name) => `option.${name}`);
    const keys = [...SERVING_PROPERTIES, ...options, ...CONFIG_PROPERTIES];
    expect(keys.length).toBeGreaterThan(120);
    expect(keys.filter((key) => findKey(key) === null)).toEqual([]);
  });

  it('has a row for every environment variable of DJLServing, LMI and the TGI aliases', () => {
    const names = [
      ...ENVIRONMENT,
      ...CONFIG_PROPERTIES.map((key) => `SERVING_${key.toUpperCase()}`),
      ...OPTIONS.map((key) => `OPTION_${key.toUpperCase()}`),
    ];
    expect(names.filter((name) => findEnvironment(name).length === 0)).toEqual([]);
  });

  it("keys of a model's file may all stand in a model's file", () => {
    const ofModels = [...SERVING_PROPERTIES, ...OPTIONS.map((name) => `option.${name}`)];
    expect(ofModels.filter((key) => findKey(key)?.scope !== 'model')).toEqual([]);
  });

  it('maps each of the TGI aliases to the key that the LMI image maps it to', () => {
    const target = (name: string): string | undefined => findEnvironment(name)[0]?.row.name;
    expect({
      HF_MODEL_QUANTIZE: target('HF_MODEL_QUANTIZE'),
      SM_NUM_GPUS: target('SM_NUM_GPUS'),
      MAX_CONCURRENT_REQUESTS: target('MAX_CONCURRENT_REQUESTS'),
      MAX_BATCH_SIZE: target('MAX_BATCH_SIZE'),
      CUDA_MEMORY_FRACTION: target('CUDA_MEMORY_FRACTION'),
    }).toEqual({
      HF_MODEL_QUANTIZE: 'option.quantize',
      SM_NUM_GPUS: 'option.tensor_parallel_degree',
      MAX_CONCURRENT_REQUESTS: 'job_queue_size',
      MAX_BATCH_SIZE: 'option.max_rolling_batch_size',
      CUDA_MEMORY_FRACTION: 'option.gpu_memory_utilization',
    });
  });

  it('every mapped row leads to a row that works, and every reason is given', () => {
    for (const row of KEY_TABLE) {
      const { status } = row;
      if (status.kind === 'mapped') expect(targetOf(row).status.kind, row.name).toBe('works');
      if (status.kind === 'noEffect') expect(status.reason.length, row.name).toBeGreaterThan(15);
      if (status.kind === 'refused') expect(status.because.length, row.name).toBeGreaterThan(15);
      if (status.kind === 'works' || status.kind === 'elsewhere')
        expect(row.what.length, row.name).toBeGreaterThan(5);
    }
  });

  it('every default is a value that its own type accepts', () => {
    for (const { name, status } of KEY_TABLE) {
      if (status.kind !== 'works') continue;
      const { defaultValue, type } = status;
      // null is "not given"; folders and addresses have their own tests.
      if (defaultValue === null || defaultValue === '' || typeof defaultValue === 'object') continue;
      expect(type.parse(String(defaultValue), '/'), name).toEqual({ value: defaultValue });
    }
  });

  it('keeps the defaults of DJLServing where it says no other', () => {
    expect(defaultsOf('server')).toMatchObject({
      maxRequestBytes: 67_108_864,
      chunkedReadTimeoutSeconds: 120,
      badRequestHttpCode: 400,
      wlmErrorHttpCode: 503,
      throttleErrorHttpCode: 503,
      serverErrorHttpCode: 500,
      requestIdHeaderKey: 'x-request-id',
      waitModelLoading: true,
      allowMultiStatus: false,
      loadModels: 'ALL',
    });
    expect(defaultsOf('model')).toMatchObject({
      // As its documentation for large models says; its code says 1000.
      jobQueueSize: 100,
      maxIdleSeconds: 60,
      reservedMemoryMb: 500,
      batchSize: 1,
      maxBatchDelayMs: 100,
      predictTimeoutSeconds: 120,
      maxRollingBatchSize: 32,
    });
  });

  it('suggests the nearest name, the missing prefix first, and nothing for what is far from all', () => {
    expect(nearestKey('option.tensor_paralel_degre')).toBe('option.tensor_parallel_degree');
    expect(nearestKey('tensor_parallel_degree')).toBe('option.tensor_parallel_degree');
    expect(nearestKey('batchsize')).toBe('batch_size');
    expect(nearestKey('option.batch_size')).toBe('batch_size');
    expect(nearestKey('zzzzzzzzzzzz')).toBeNull();
    expect(nearestEnvironment('SERVING_BATCHSIZE')).toBe('SERVING_BATCH_SIZE');
  });

  it.each([
    ['tensor_parallel_degre', 'option.tensor_parallel_degree'],
    ['tensor_paralel_degre', 'option.tensor_parallel_degree'],
    ['ouput_formatter', 'option.output_formatter'],
    ['max_rolling_batchsize', 'option.max_rolling_batch_size'],
    ['max_model_length', null],
    ['dtyp', 'option.dtype'],
    ['modelid', 'option.model_id'],
    ['batch_size', 'batch_size'],
  ])('option.%s is a slip away from %s', (name, meant) => {
    expect(misspeltOption(`option.${name}`)).toBe(meant);
  });

  it("takes no option of LMI's engines for a slip", () => {
    const unknown = ENGINE_OPTIONS.filter((name) => findKey(`option.${name}`) === null);
    expect(unknown.length).toBeGreaterThan(150);
    const slips = unknown.map((name) => [name, misspeltOption(`option.${name}`)]);
    expect(slips.filter(([, meant]) => meant !== null)).toEqual([]);
  });
});
