/**
 * Every key of Model Analyzer's configuration: works here, means something like it, has no effect, or is refused; and its metric tags.
 *
 * In      nothing
 * Out     two tables; README.md lists them
 * Source  Model Analyzer's config.md and its perf_analyzer flags
 */
import type { Metric } from '../units/metrics.js';

export interface AnalyzerKey {
  kind: 'works' | 'mapped' | 'none' | 'refused';
  why: string;
}

const works: AnalyzerKey = { kind: 'works', why: '' };
const mapped = (why: string): AnalyzerKey => ({ kind: 'mapped', why });
const none = (why: string): AnalyzerKey => ({ kind: 'none', why });
const refused = (why: string): AnalyzerKey => ({ kind: 'refused', why });

const DOCKER = 'the server is started as a process, not in a container';
const GPU_SAMPLES = "a GPU's memory is asked once, after the windows";
const PLOTS = 'the report draws what it has; results/measurements.csv has every figure';
const COMPOSING = 'ensembles and BLS models are not served';

export const ANALYZER_KEYS: Readonly<Record<string, AnalyzerKey>> = {
  model_repository: works,
  profile_models: works,
  analysis_models: works,
  report_model_configs: works,
  export_path: works,
  concurrency: works,
  request_rate: works,
  run_config_search_mode: works,
  run_config_search_min_concurrency: works,
  run_config_search_max_concurrency: works,
  run_config_search_min_model_batch_size: works,
  run_config_search_max_model_batch_size: works,
  run_config_search_min_instance_count: works,
  run_config_search_max_instance_count: works,
  run_config_search_min_request_rate: works,
  run_config_search_max_request_rate: works,
  run_config_search_disable: works,
  request_rate_search_enable: works,
  concurrency_sweep_disable: works,
  optuna_max_trials: works,
  optuna_early_exit_threshold: works,
  latency_budget: works,
  min_throughput: works,
  constraints: works,
  objectives: works,
  perf_analyzer_flags: works,
  genai_perf_flags: works,
  client_protocol: works,
  num_configs_per_model: works,
  triton_http_endpoint: works,
  triton_grpc_endpoint: works,
  triton_metrics_url: works,
  batch_sizes: mapped('one client batch size: the first axis of each tensor'),
  checkpoint_directory: mapped('holds the journal, journal.jsonl'),
  triton_launch_mode: mapped(
    'local starts our server; remote measures one that runs; docker and c_api start our server too',
  ),
  run_config_profile_models_concurrently_enable: mapped('several models are always measured together'),
  output_model_repository_path: none('variants are folders under the results, removed at the end'),
  override_output_model_repository: none('variants are folders of their own'),
  run_config_search_max_binary_search_steps: none('loads are those of the list'),
  run_config_search_preferred_batch_size_disable: none('there are no preferred batch sizes'),
  min_percentage_of_search_space: none(
    'the search ends by optuna_max_trials and optuna_early_exit_threshold',
  ),
  max_percentage_of_search_space: none(
    'the search ends by optuna_max_trials and optuna_early_exit_threshold',
  ),
  optuna_min_trials: none('the first ten measurements are drawn in any case'),
  use_concurrency_formula: none('loads are those of the list'),
  client_max_retries: none('a request that fails is an error that is counted'),
  client_timeout: none('load.request_timeout_seconds of our own form'),
  duration_seconds: none('the idle server is not measured'),
  monitoring_interval: none('memory is read every two seconds'),
  collect_cpu_metrics: none('memory and processor use are always measured'),
  always_report_gpu_metrics: none(GPU_SAMPLES),
  gpus: none('the server takes the devices that it finds'),
  dcgm_disable: none(GPU_SAMPLES),
  perf_analyzer_timeout: none('windows have limits of their own'),
  perf_analyzer_max_auto_adjusts: none('windows are added until they agree'),
  perf_analyzer_cpu_util: none('the load generator says when it was the bottleneck, and goes on'),
  perf_analyzer_path: none('the load generator is built in'),
  perf_output: none('keep_requests of our own form'),
  perf_output_path: none('keep_requests of our own form'),
  num_top_model_configs: none('all models are ranked together'),
  skip_summary_reports: none('reports are always written'),
  skip_detailed_reports: none('there is one report'),
  model_type: none('what the model says of itself decides'),
  verbose: none(PLOTS),
  quiet: none(PLOTS),
  plots: none(PLOTS),
  output_format: none('one page of HTML, PDF and PNG where there is a browser'),
  output_formats: none('one page of HTML, PDF and PNG where there is a browser'),
  inference_output_fields: none(
    "the CSV has Model Analyzer's default columns, results/measurements.csv every figure",
  ),
  gpu_output_fields: none("the CSV has Model Analyzer's default columns"),
  server_output_fields: none("the CSV has Model Analyzer's default columns"),
  filename_model_inference: none('the default name is kept'),
  filename_model_gpu: none('the default name is kept'),
  filename_server_only: none('the default name is kept'),
  reload_model_disable: none('the server starts anew for a configuration'),
  triton_docker_image: none(DOCKER),
  triton_docker_mounts: none(DOCKER),
  triton_docker_labels: none(DOCKER),
  triton_docker_args: none(DOCKER),
  triton_docker_shm_size: none(DOCKER),
  triton_server_path: none('the server is this package'),
  triton_install_path: none('the server is this package'),
  triton_output_path: none("a server's last lines stand beside a configuration that failed"),
  triton_server_flags: refused(
    "Triton's flags mean nothing to this server: server.environment and server.space of our own form set its keys",
  ),
  triton_server_environment: refused('server.environment of our own form sets keys of the server'),
  bls_composing_models: refused(COMPOSING),
  ensemble_composing_models: refused(COMPOSING),
  cpu_only_composing_models: refused(COMPOSING),
  weighting: refused('weights are a model’s: profile_models.NAME.weighting'),
};

export interface MetricTag {
  metric: Metric;
  /** Its unit there, in ours. */
  factor: number;
  note?: string;
}

const MB = 1e6;
const same = (metric: Metric): MetricTag => ({ metric, factor: 1 });
const percentiles = (
  theirs: string,
  ours: 'latency' | 'first_token' | 'token_gap',
): Record<string, MetricTag> => ({
  [`${theirs}_avg`]: same(`${ours}_mean_ms`),
  [`${theirs}_p50`]: same(`${ours}_p50_ms`),
  [`${theirs}_p90`]: same(`${ours}_p90_ms`),
  [`${theirs}_p95`]: same(`${ours}_p95_ms`),
  [`${theirs}_p99`]: same(`${ours}_p99_ms`),
});

export const METRIC_TAGS: Readonly<Record<string, MetricTag>> = {
  perf_throughput: same('throughput_per_s'),
  perf_latency: same('latency_p99_ms'),
  ...percentiles('perf_latency', 'latency'),
  ...percentiles('time_to_first_token', 'first_token'),
  ...percentiles('inter_token_latency', 'token_gap'),
  output_token_throughput: same('tokens_out_per_s'),
  perf_server_queue: same('queue_mean_ms'),
  perf_server_compute_infer: same('compute_mean_ms'),
  cpu_used_ram: { metric: 'memory_bytes', factor: MB },
  gpu_used_memory: {
    metric: 'memory_bytes',
    factor: MB,
    note: 'gpu_used_memory: this server runs on the CPU, so the memory of all its processes is meant',
  },
};
