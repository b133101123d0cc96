/**
 * Variables of the environment that no key of a file says: those that are read elsewhere, and DJLServing's and LMI's that do nothing here.
 *
 * Source  names: DJLServing and LMI, CUDA and its container runtime, XDG's folders
 */
import { type KeyRow, readElsewhere, refused, withoutEffect } from './key-row.js';

const MEMORY_CACHE = 'asynchronous answers are kept in the memory of this server, bounded by async_result_*';
const NO_JVM = 'there is no Java virtual machine here';

export const ENVIRONMENT_KEYS: readonly KeyRow[] = [
  readElsewhere('PORT', "inference_address's port, where nothing else says it (also --port)"),
  readElsewhere(
    'MODEL_SERVER_HOME',
    'conf/config.properties or config.properties in this folder is read where there is no -f',
  ),
  readElsewhere('SAGEMAKER_MULTI_MODEL', 'true: `serve` loads no model at start'),
  readElsewhere(
    'CUDA_VISIBLE_DEVICES',
    'the GPUs that there are for this server, by number, in the order of the bus as NVML has them, or by UUID',
  ),
  readElsewhere('NVIDIA_VISIBLE_DEVICES', 'none, void: there are no GPUs'),
  readElsewhere(
    'NCCL_DEBUG',
    "NCCL's own: what it logs, WARN or INFO; NCCL_P2P_DISABLE, NCCL_SHM_DISABLE and NCCL_SOCKET_IFNAME (lo where absent) reach it too",
  ),
  readElsewhere('XDG_CACHE_HOME', 'where the folders of an installed package lie, in shardserve/'),
  readElsewhere(
    'SHARDSERVE_KERNELS',
    'off: the operators of ONNX Runtime in place of our own kernels; portable, avx2, avx-vnni, avx512-vnni, amx-int8, neon-dotprod, neon-i8mm: no better set of instructions than this (ours)',
  ),
  readElsewhere(
    'SHARDSERVE_GPU_CAPTURE',
    'off: with option.device=webgpu no decode step is replayed as the graph that was captured of the one before (ours)',
  ),
  readElsewhere('NO_COLOR', 'the log of a terminal has no colours'),

  ...withoutEffect('environment', 'the engine of a model is what its files or its key engine say', [
    'SERVING_FEATURES',
    'DJL_DEFAULT_ENGINE',
  ]),
  ...withoutEffect('environment', NO_JVM, [
    'SERVING_OPTS',
    'JAVA_OPTS',
    'DEFAULT_JVM_OPTS',
    'MAX_NETTY_BUFFER_SIZE',
    'SAGEMAKER_MODEL_SERVER_VMARGS',
  ]),
  ...withoutEffect('environment', MEMORY_CACHE, [
    'SERVING_CACHE_MULTITENANT',
    'SERVING_CACHE_BATCH',
    'SERVING_DDB_CACHE',
    'SERVING_DDB_TABLE_NAME',
    'SERVING_S3_CACHE',
    'SERVING_S3_CACHE_BUCKET',
    'SERVING_S3_CACHE_KEY_PREFIX',
    'SERVING_S3_CACHE_AUTOCREATE',
  ]),
  ...withoutEffect('environment', 'the installation finds its own folder', ['APP_HOME']),
  refused('environment', 'DJL_CLUSTER_SIZE', 'all ranks of a model run on this host in this version', ['1']),
  ...withoutEffect('environment', 'all ranks of a model run on this host', [
    'DJL_LEADER_ADDR',
    'DJL_WORKER_ADDR_FORMAT',
    'MASTER_ADDR',
  ]),
  ...withoutEffect('environment', 'threads of a rank are set by option.threads_per_rank', [
    'OMP_NUM_THREADS',
    'NO_OMP_NUM_THREADS',
  ]),
  ...withoutEffect('environment', 'a request never chooses the function of a handler', [
    'ALLOW_REQUEST_HANDLER_OVERRIDE',
  ]),
  ...withoutEffect('environment', 'there is no Python environment', ['DJL_VENV_DIR']),
  ...withoutEffect('environment', 'arguments of Java translators have no use here', ['ARGS_<NAME>']),
];
