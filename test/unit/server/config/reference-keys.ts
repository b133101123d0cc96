/**
 * Every key that a user of DJLServing 0.36 and its LMI container may bring, as listed in the project's notes on serving APIs
 * (their sections on serving.properties, config.properties and environment variables), which were read from its source.
 */

const words = (text: string): readonly string[] => text.trim().split(/\s+/);

/** A model's serving.properties, without prefix. */
export const SERVING_PROPERTIES = words(`
  engine load_on_devices job_queue_size batch_size max_dynamic_batch_size max_batch_delay max_idle_time minWorkers maxWorkers
  cpu.minWorkers cpu.maxWorkers gpu.minWorkers gpu.maxWorkers nc.minWorkers nc.maxWorkers
  required_memory_mb reserved_memory_mb gpu.required_memory_mb gpu.reserved_memory_mb
  retry_threshold log_request_metric metrics_aggregation translatorFactory translator blockFactory batchifier
`);

/** With the prefix `option.` in a file and OPTION_ in the environment. */
export const OPTIONS = words(`
  model_id modelName entryPoint handler pythonExecutable env predict_timeout model_loading_timeout parallel_loading
  tensor_parallel_degree pipeline_parallel_degree rolling_batch max_rolling_batch_size max_rolling_batch_prefill_tokens
  async_mode mpi_mode enable_streaming output_formatter tgi_compat bedrock_compat dtype revision trust_remote_code task
  quantize device_map low_cpu_mem_usage load_in_8bit load_in_4bit waiting_steps
  enable_lora max_loras max_lora_rank max_cpu_loras fully_sharded_loras lora_extra_vocab_size long_lora_scaling_factors
  lora_dtype gpu_memory_utilization max_model_len enforce_eager cpu_offload_gb_per_gpu enable_prefix_caching
  speculative_draft_model speculative_length draft_model_id spec_length
  enable_auto_tool_choice tool_call_parser enable_reasoning reasoning_parser chat_template chat_template_content_format
  normalize enable_venv max_output_size use_passive_workers lmcache_auto_config lmcache_config_file
  enable_stateful_sessions sessions_path sessions_expiration sessions_s3url
  mapLocation extraFiles default_accept interOpNumThreads intraOpNumThreads executionMode optLevel ortDevice
`);

/** config.properties; SERVING_<KEY> in the environment. */
export const CONFIG_PROPERTIES = words(`
  inference_address management_address cluster_address model_store load_models load_on_devices wait_model_loading
  allow_multi_status model_url_pattern number_of_netty_threads job_queue_size batch_size max_batch_delay max_idle_time
  reserved_memory_mb max_request_size chunked_read_timeout cors_allowed_origin cors_allowed_methods cors_allowed_headers
  keystore keystore_pass keystore_type certificate_file private_key_file plugin_folder
  error_rate_wlm error_rate_server error_rate_model error_rate_any
  bad_request_http_code wlm_error_http_code throttle_error_http_code timeout_http_code server_error_http_code
  request_id_header_key use_native_io io_ratio grpc_address grpc_port grpc_max_connection_age grpc_max_connection_grace
  WEB_ROOT
`);

/** Environment variables that follow from no key above, and some that do. */
export const ENVIRONMENT = words(`
  SERVING_JOB_QUEUE_SIZE SERVING_BATCH_SIZE SERVING_NUMBER_OF_NETTY_THREADS SERVING_LOAD_MODELS SERVING_MODEL_STORE
  SERVING_MIN_WORKERS SERVING_MAX_WORKERS SERVING_RETRY_THRESHOLD SERVING_FAIL_FAST SERVING_HEALTH_CHECK_OVERRIDE
  SERVING_PROMETHEUS SERVING_FEATURES SERVING_DOWNLOAD_DIR SERVING_OPTS SERVING_CACHE_MULTITENANT SERVING_CACHE_BATCH
  SERVING_MEMORY_CACHE_CAPACITY SERVING_DDB_CACHE SERVING_DDB_TABLE_NAME
  SERVING_S3_CACHE SERVING_S3_CACHE_BUCKET SERVING_S3_CACHE_KEY_PREFIX SERVING_S3_CACHE_AUTOCREATE
  OPTION_ENTRYPOINT OPTION_ENGINE ARGS_TOPK
  TENSOR_PARALLEL_DEGREE PIPELINE_PARALLEL_DEGREE PYTHON_EXECUTABLE DJL_ENTRY_POINT MODEL_LOADING_TIMEOUT PREDICT_TIMEOUT
  MAX_NETTY_BUFFER_SIZE DJL_VENV_DIR DJL_CACHE_DIR DJL_OFFLINE DJL_DEFAULT_ENGINE DJL_CLUSTER_SIZE DJL_LEADER_ADDR
  DJL_WORKER_ADDR_FORMAT MASTER_ADDR MODEL_SERVER_HOME APP_HOME JAVA_OPTS DEFAULT_JVM_OPTS OMP_NUM_THREADS
  NO_OMP_NUM_THREADS CUDA_VISIBLE_DEVICES ALLOW_REQUEST_HANDLER_OVERRIDE HF_MODEL_ID HF_REVISION HF_TASK HF_TOKEN
  HF_MODEL_QUANTIZE HF_MODEL_TRUST_REMOTE_CODE SM_NUM_GPUS MAX_CONCURRENT_REQUESTS MAX_BATCH_PREFILL_TOKENS
  MAX_BATCH_SIZE ENABLE_CUDA_GRAPHS CUDA_MEMORY_FRACTION
`);
