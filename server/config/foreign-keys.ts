/**
 * Keys of a model that DJLServing, LMI, TGI or vLLM know and that have no effect here, or cannot be had.
 *
 * Reasons are written to complete "KEY has no effect here: …" and sentences to complete "KEY=VALUE: …".
 *
 * Source  DJLServing and LMI (all), vLLM EngineArgs (the common ones), as written down in the project's notes on serving APIs
 */
import { type KeyRow, refused, withoutEffect } from './key-row.js';

const option = (names: readonly string[]): string[] => names.map((name) => `option.${name}`);
const optionsWithoutEffect = (reason: string, names: readonly string[]): KeyRow[] =>
  withoutEffect('model', reason, option(names));

const NO_JAVA =
  'Java classes cannot run here: a checkpoint is served with its own tokenizer and chat template';
const NO_PYTHON = 'no Python runs here';
const NO_HANDLER = 'custom Python handlers cannot run here; the checkpoint is served by the built-in one';
const NO_ADAPTER = 'LoRA adapters are not served in this version';
const NO_SPECULATION = 'tokens are guessed by option.speculative_config alone; answers are the same';
const SESSIONS_IN_MEMORY = "sessions are kept in the server's memory, and end with it";
const NO_GRAPHS = 'steps are not captured as CUDA graphs in this version';
const OWN_COLLECTIVE = 'ranks add by option.collective';
const GPU_SHARE = "a GPU's memory is bounded by option.gpu_memory_utilization";
const OTHER_ENGINE = "a key of DJL's PyTorch engine, or a device of ONNX Runtime's that is not served";
const CHUNK_BY_TIME =
  'a piece of a prompt is bounded by time: option.max_token_gap_ms, option.prefill_chunk_ms';
const NOT_PAGED = 'the cache is not paged; weights share scales by option.quantize_block_size';
const ONE_COPY = 'one copy of the weights serves few tokens and many; the key is no longer needed';
const OTHER_PREFIX_CACHE = 'the prefix cache is option.enable_prefix_caching, in the memory of the workers';

export const FOREIGN_KEYS: readonly KeyRow[] = [
  // DJLServing, without "option."
  ...withoutEffect('model', 'there is no Neuron device in this version', ['nc.minWorkers', 'nc.maxWorkers']),
  ...withoutEffect('model', GPU_SHARE, ['gpu.required_memory_mb', 'gpu.reserved_memory_mb']),
  refused('model', 'translatorFactory', NO_JAVA),
  refused('model', 'translator', NO_JAVA),
  refused('model', 'blockFactory', NO_JAVA),
  ...withoutEffect('model', NO_JAVA, ['batchifier']),

  // Python engine
  refused('model', 'option.handler', NO_HANDLER, ['handle']),
  ...withoutEffect('model', NO_PYTHON, ['option.pythonExecutable'], { env: ['PYTHON_EXECUTABLE'] }),
  ...optionsWithoutEffect(NO_PYTHON, [
    'env',
    'enable_venv',
    'max_output_size',
    'use_passive_workers',
    'mpi_mode',
  ]),
  ...optionsWithoutEffect('the ranks of a model always load at the same time', ['parallel_loading']),
  ...optionsWithoutEffect('requests always join and leave as they come', ['waiting_steps']),
  refused(
    'model',
    'option.enable_streaming',
    'a request asks for a stream itself ("stream": true), or option.output_formatter=jsonlines (sse) streams every answer',
    ['false'],
  ),
  ...optionsWithoutEffect("a model's name is that of its folder, or the one given in load_models", [
    'modelName',
  ]),
  refused('model', 'option.pipeline_parallel_degree', 'models are split by tensors only', ['1'], {
    env: ['PIPELINE_PARALLEL_DEGREE'],
  }),
  refused('model', 'option.bedrock_compat', "Bedrock's form of answer is not served", ['false']),

  // This server's own, of earlier versions
  ...withoutEffect('model', ONE_COPY, ['option.batch_weights']),

  // LMI and vLLM
  ...withoutEffect('model', CHUNK_BY_TIME, ['option.max_rolling_batch_prefill_tokens'], {
    env: ['MAX_BATCH_PREFILL_TOKENS'],
  }),
  ...optionsWithoutEffect(CHUNK_BY_TIME, ['max_num_batched_tokens', 'enable_chunked_prefill']),
  ...optionsWithoutEffect(NOT_PAGED, ['block_size']),
  ...optionsWithoutEffect('a model is on the CPU or on GPUs as a whole (option.device, load_on_devices)', [
    'device_map',
    'low_cpu_mem_usage',
    'cpu_offload_gb_per_gpu',
  ]),
  ...withoutEffect('model', NO_GRAPHS, ['option.enforce_eager'], { env: ['ENABLE_CUDA_GRAPHS'] }),
  ...optionsWithoutEffect(OWN_COLLECTIVE, ['distributed_executor_backend', 'disable_custom_all_reduce']),
  ...optionsWithoutEffect(OTHER_PREFIX_CACHE, ['lmcache_auto_config', 'lmcache_config_file']),
  ...optionsWithoutEffect(NO_SPECULATION, [
    'speculative_draft_model',
    'speculative_length',
    'draft_model_id',
    'spec_length',
  ]),
  refused('model', 'option.enable_lora', NO_ADAPTER, ['false']),
  ...optionsWithoutEffect(NO_ADAPTER, [
    'max_loras',
    'max_lora_rank',
    'max_cpu_loras',
    'fully_sharded_loras',
    'lora_extra_vocab_size',
    'long_lora_scaling_factors',
    'lora_dtype',
  ]),
  ...optionsWithoutEffect('a request with tools may always call one', ['enable_auto_tool_choice']),
  ...optionsWithoutEffect('the parser says it: option.reasoning_parser', ['enable_reasoning']),
  ...optionsWithoutEffect('a chat template gets the content as the client wrote it', [
    'chat_template_content_format',
  ]),
  ...optionsWithoutEffect(SESSIONS_IN_MEMORY, ['sessions_path', 'sessions_s3url']),
  ...withoutEffect(
    'model',
    'LMI reads it for scikit-learn and XGBoost models only',
    ['option.default_accept'],
    {
      env: ['SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT'],
    },
  ),
  ...optionsWithoutEffect('a request gives its own seed', ['seed']),
  ...optionsWithoutEffect('safetensors are always what is read', ['load_format']),

  // PyTorch and ONNX Runtime engines
  ...optionsWithoutEffect(OTHER_ENGINE, ['mapLocation', 'extraFiles', 'ortDevice']),
];
