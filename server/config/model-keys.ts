/**
 * Keys of a model that work: DJLServing's batching and LMI's `option.*`, and this server's own.
 *
 * They stand in the model's serving.properties, or server-wide as every model's default.
 *
 * Source  names, defaults and meaning: DJLServing and LMI, as written down in the project's notes on serving APIs;
 *         a default that differs says so.
 */
import { MAX_SLOTS, MAX_WORLD_SIZE } from '../../proto/limits.js';
import { ANSWER_KEYS } from './answer-keys.js';
import { CACHE_KEYS } from './cache-keys.js';
import { DEFAULT_COLLECTIVE, type ModelConfig } from './config.js';
import { DEVICE_KEYS } from './device-keys.js';
import { EMBEDDING_KEYS } from './embedding-keys.js';
import { ENGINE_KEYS } from './engine-keys.js';
import { alias, type KeyRow, modelKey } from './key-row.js';
import { SPECULATION_KEYS } from './speculation-keys.js';
import { boolean, type Choice, choice, integer, orWord, text } from './value-types.js';
import { WEIGHT_KEYS } from './weight-keys.js';

const NO_BEDROCK = { refused: "Bedrock's form of answer is not served" };
const QUANTISED_CHECKPOINT: Choice<null> = {
  value: null,
  warning:
    'how a checkpoint was quantised is read from its own config.json; dtype=int4 keeps its codes, fp32 their values',
};

const workers = integer(0, 64);
const rolling = { value: 'rolling' as const };

export const MODEL_KEYS: readonly KeyRow[] = [
  ...ENGINE_KEYS,
  modelKey(
    'job_queue_size',
    'jobQueueSize',
    integer(1, 1_000_000),
    100,
    'requests that may wait for a model (DJLServing: 1000, its documentation for large models: 100)',
    {
      env: ['MAX_CONCURRENT_REQUESTS'],
    },
  ),
  modelKey(
    'batch_size',
    'batchSize',
    integer(1, MAX_SLOTS),
    1,
    'requests of one dynamic batch; above 1 it turns rolling batch off',
  ),
  alias('max_dynamic_batch_size', 'batch_size'),
  modelKey(
    'max_batch_delay',
    'maxBatchDelayMs',
    integer(0, 600_000, 'ms'),
    100,
    'time that a dynamic batch waits to fill',
  ),
  modelKey(
    'retry_threshold',
    'retryThreshold',
    integer(0, 1000),
    10,
    'deaths of worker groups in ten minutes that a model survives; one more and it is FAILED (DJLServing: 0)',
  ),
  modelKey(
    'retry_cool_down',
    'retryCoolDownSeconds',
    integer(0, 86_400, 'seconds'),
    60,
    'a model that is FAILED is tried again after so long, then after twice as long, up to ten minutes (ours); 0: only by PUT /models/NAME?retry=true',
  ),
  modelKey(
    'minWorkers',
    'minWorkers',
    workers,
    null,
    'worker groups (replicas of tensor_parallel_degree shard workers) that a model keeps; default: 1, at most maxWorkers',
    { env: ['SERVING_MIN_WORKERS', 'SAGEMAKER_NUM_MODEL_WORKERS'] },
  ),
  modelKey(
    'maxWorkers',
    'maxWorkers',
    workers,
    null,
    'worker groups that a model may have; default: 1, or minWorkers. Both 0: the model has no workers',
    { env: ['SERVING_MAX_WORKERS', 'SAGEMAKER_NUM_MODEL_WORKERS'] },
  ),
  modelKey('cpu.minWorkers', 'cpuMinWorkers', workers, null, 'minWorkers on the CPU; wins over minWorkers'),
  modelKey('cpu.maxWorkers', 'cpuMaxWorkers', workers, null, 'maxWorkers on the CPU; wins over maxWorkers'),
  modelKey(
    'max_idle_time',
    'maxIdleSeconds',
    integer(1, 86_400, 'seconds'),
    60,
    'a worker group above minWorkers that has had nothing to do for so long is stopped',
  ),
  modelKey(
    'option.scale_from_zero',
    'scaleFromZero',
    boolean(),
    false,
    'a model of no workers (minWorkers and maxWorkers 0) starts one when a request comes (ours)',
  ),
  modelKey(
    'required_memory_mb',
    'requiredMemoryMb',
    integer(0, 16_777_216, 'MiB'),
    0,
    'memory that one worker group needs; 0: estimated from weights, KV cache and workspace',
  ),
  modelKey(
    'reserved_memory_mb',
    'reservedMemoryMb',
    integer(0, 16_777_216, 'MiB'),
    500,
    'memory that loading a model must leave free',
  ),
  modelKey(
    'option.model_id',
    'modelId',
    text('the path, the URL or the hub id of a checkpoint'),
    null,
    'where the checkpoint is when it is not in the model folder; server-wide: a model to load at start',
    { env: ['HF_MODEL_ID'] },
  ),
  modelKey(
    'option.revision',
    'revision',
    text('a branch, tag or commit'),
    null,
    'revision of a checkpoint of the hub',
    { env: ['HF_REVISION'] },
  ),
  modelKey(
    'option.tensor_parallel_degree',
    'tensorParallelDegree',
    orWord(integer(1, MAX_WORLD_SIZE), { max: 'max' as const }),
    1,
    'shard workers that a model is split over; max: as many as there are devices',
    { env: ['TENSOR_PARALLEL_DEGREE', 'SM_NUM_GPUS'] },
  ),
  ...DEVICE_KEYS,
  modelKey(
    'option.rolling_batch',
    'rollingBatch',
    choice({
      auto: rolling,
      vllm: rolling,
      trtllm: rolling,
      'lmi-dist': rolling,
      disable: { value: 'disabled' as const },
    }),
    null,
    'continuous batching (all names but disable mean the same here); default: on, unless batch_size is above 1',
  ),
  modelKey(
    'option.max_rolling_batch_size',
    'maxRollingBatchSize',
    orWord(integer(1, MAX_SLOTS), { auto: null }),
    32,
    'sequences that run at once; auto: KV memory for 32 of full length, and in it as many of 512 tokens as fit, at most 128',
    { env: ['MAX_BATCH_SIZE'] },
  ),
  alias('option.max_num_seqs', 'option.max_rolling_batch_size'),
  modelKey(
    'option.dtype',
    'dtype',
    choice<ModelConfig['dtype']>({
      auto: { value: 'auto' },
      fp32: { value: 'fp32' },
      float32: { value: 'fp32' },
      int8: { value: 'int8' },
      int4: { value: 'int4' },
      fp16: { value: 'fp16' },
      float16: { value: 'fp16' },
      bf16: { value: 'bf16' },
      bfloat16: { value: 'bf16' },
    }),
    'auto',
    'how weights are held; fp16 and bf16: at 16 bits, computed with in float32; auto: fp32 below 200 MB of weights and for encoders, int8 below a billion parameters, else int4, which a checkpoint of 4-bit codes stays at any size',
  ),
  modelKey(
    'option.quantize',
    'quantize',
    choice<'int8' | 'int4' | null>(
      {
        int8: { value: 'int8' },
        int4: { value: 'int4' },
        none: { value: null },
        awq: QUANTISED_CHECKPOINT,
        gptq: QUANTISED_CHECKPOINT,
      },
      'this kind of quantisation is not known here; it must be int8, int4 or none',
    ),
    null,
    'the same as dtype=int8 or int4',
    { env: ['HF_MODEL_QUANTIZE'] },
  ),
  alias('option.quantization', 'option.quantize'),
  modelKey(
    'option.load_in_8bit',
    'quantize',
    choice({ true: { value: 'int8' as const }, false: { value: null } }),
    null,
    'true: the same as quantize=int8',
  ),
  modelKey(
    'option.load_in_4bit',
    'quantize',
    choice({ true: { value: 'int4' as const }, false: { value: null } }),
    null,
    'true: the same as quantize=int4',
  ),
  ...WEIGHT_KEYS,
  modelKey(
    'option.max_model_len',
    'maxModelLen',
    orWord(integer(1, 16_777_216, 'tokens'), { auto: null }),
    null,
    'longest prompt and answer together; auto: what the model was trained for',
  ),
  modelKey(
    'option.prefill_chunk_ms',
    'prefillChunkMs',
    orWord(integer(1, 10_000, 'ms'), { auto: null }),
    null,
    'time that a piece of a prompt may take beside running sequences at most (ours); auto: what max_token_gap_ms and scheduling leave it',
  ),
  modelKey(
    'option.max_token_gap_ms',
    'maxTokenGapMs',
    integer(1, 60_000, 'ms'),
    500,
    'longest pause between two tokens of a stream that prompts beside it may cause (ours)',
  ),
  modelKey(
    'option.scheduling',
    'scheduling',
    choice<'throughput' | 'balanced' | 'latency'>({
      throughput: { value: 'throughput' },
      balanced: { value: 'balanced' },
      latency: { value: 'latency' },
    }),
    'balanced',
    'how much of max_token_gap_ms prompts get beside running sequences (ours): throughput: all; balanced: the more, the more of them wait; latency: likewise, but less',
  ),
  modelKey(
    'option.prompt_order',
    'promptOrder',
    choice<'shortest' | 'fair'>({ shortest: { value: 'shortest' }, fair: { value: 'fair' } }),
    'shortest',
    'whose prompt goes first in a step (ours): shortest: half to the oldest, the rest to those with least left; fair: all alike',
  ),
  ...CACHE_KEYS,
  modelKey(
    'option.threads_per_rank',
    'threadsPerRank',
    orWord(integer(1, 1024), { auto: null }),
    null,
    'threads of one shard worker (ours); auto: usable cores divided by the tensor-parallel degree',
  ),
  alias('option.intraOpNumThreads', 'option.threads_per_rank'),
  modelKey(
    'option.model_loading_timeout',
    'modelLoadingTimeoutSeconds',
    integer(1, 86_400, 'seconds'),
    1800,
    'time to split and load a model (DJLServing: 240, LMI: 1800)',
    { env: ['MODEL_LOADING_TIMEOUT', 'SAGEMAKER_STARTUP_TIMEOUT'] },
  ),
  modelKey(
    'option.predict_timeout',
    'predictTimeoutSeconds',
    integer(1, 86_400, 'seconds'),
    120,
    'longest wait of a request for a free slot; one that would wait longer, by the rate at which requests start, is refused at once with Retry-After',
    { env: ['PREDICT_TIMEOUT', 'SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS'] },
  ),
  modelKey(
    'option.request_timeout',
    'requestTimeoutSeconds',
    integer(1, 2_592_000, 'seconds'),
    3600,
    'a request that is not answered whole after so long is ended, waiting included (ours); x-request-timeout-ms may ask for less',
  ),
  modelKey(
    'option.step_timeout',
    'stepTimeoutSeconds',
    integer(1, 3600, 'seconds'),
    60,
    'a step of all ranks that takes longer fails its group (ours)',
  ),
  modelKey(
    'option.request_retries',
    'requestRetries',
    integer(0, 100),
    2,
    'deaths of its worker group in a row, at one place of its answer, that a request survives: it goes on where it was, in another (ours); ranks killed from outside count for nobody; in all it survives half of retry_threshold; to an ONNX model or a handler it is put again whole, and alone, if nothing of its answer was told, also when a batch of several throws; 0: it ends with an error',
  ),
  modelKey(
    'log_request_metric',
    'logRequestMetric',
    boolean(),
    false,
    'write percentiles of token latency, throughput, batch size and output tokens to model_metric.log (needs log_folder)',
  ),
  modelKey(
    'metrics_aggregation',
    'metricsAggregation',
    integer(1, 1_000_000),
    1000,
    'values of which one percentile is written',
  ),
  modelKey(
    'option.verify_checksums',
    'verifyChecksums',
    boolean(),
    true,
    "compare each shard file with its manifest's SHA-256 before use (ours)",
  ),
  modelKey(
    'option.collective',
    'collective',
    choice<ModelConfig['collective']>({
      auto: { value: 'auto' },
      nccl: { value: 'nccl' },
      shm: { value: 'shm' },
      zmq: { value: 'zmq' },
    }),
    DEFAULT_COLLECTIVE,
    'how partial sums pass between the shard workers of a group (ours): shm: shared memory, zmq: ZeroMQ sockets; nccl: between GPUs, option.device=cuda alone, not yet run on hardware, and in an order of its own: from three ranks on a text may not be that of another degree; auto: nccl where its library is found, else shm, or zmq where shared memory cannot be had',
  ),
  modelKey(
    'option.task',
    'task',
    choice<'text-generation' | 'text-embedding' | 'text-classification' | null>(
      {
        auto: { value: null },
        'text-generation': { value: 'text-generation' },
        text_generation: { value: 'text-generation' },
        'text-embedding': { value: 'text-embedding' },
        text_embedding: { value: 'text-embedding' },
        'feature-extraction': { value: 'text-embedding' },
        feature_extraction: { value: 'text-embedding' },
        'text-classification': { value: 'text-classification' },
        text_classification: { value: 'text-classification' },
        'token-classification': { value: 'text-classification' },
        token_classification: { value: 'text-classification' },
      },
      'this task is not served here; it must be text-generation, text-embedding (feature-extraction) or text-classification (token-classification)',
    ),
    null,
    'what the model must be for: another checkpoint is refused; auto: what its architecture is for',
    { env: ['HF_TASK'] },
  ),
  ...EMBEDDING_KEYS,
  ...SPECULATION_KEYS,
  modelKey(
    'option.collective_compression',
    'collectiveCompression',
    choice<'none' | 'int8'>({ none: { value: 'none' }, int8: { value: 'int8' } }),
    'none',
    'how partial sums are sent with option.collective=zmq (ours): int8: in blocks of 8-bit numbers, a quarter of the bytes, for links slower than the processor; sums are then rounded',
  ),
  modelKey(
    'option.output_formatter',
    'outputFormatter',
    choice<ModelConfig['outputFormatter']>({
      auto: { value: null },
      json: { value: 'json' },
      jsonlines: { value: 'jsonlines' },
      sse: { value: 'sse' },
      json_chat: { value: 'json_chat' },
      jsonlines_chat: { value: 'jsonlines_chat' },
      sse_chat: { value: 'sse_chat' },
      '3p': NO_BEDROCK,
      '3p_stream': NO_BEDROCK,
      none: { refused: 'an answer without any form is not offered here' },
    }),
    null,
    "form of the answers; auto: json, or jsonlines for stream=true; json_chat, jsonlines_chat and sse_chat answer inputs with OpenAI's objects of a chat",
  ),
  modelKey(
    'option.tgi_compat',
    'tgiCompat',
    boolean(),
    false,
    'answers to inputs in the form of Text Generation Inference',
  ),
  modelKey(
    'option.async_mode',
    'asyncMode',
    boolean(),
    false,
    "LMI's newer handler: answers to inputs in the schema that it has for them, continuous batching whatever option.rolling_batch says",
  ),
  ...ANSWER_KEYS,
];
