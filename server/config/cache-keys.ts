/**
 * Keys of a model that say what is kept of keys and values, and who is told of it.
 *
 * Source  server/batching/prefix-cache.ts; vLLM (preemption_mode, swap_space)
 */
import type { KvCacheDtype } from './config.js';
import { type KeyRow, modelKey } from './key-row.js';
import { amount, boolean, choice, integer, oneOf, orWord } from './value-types.js';

export const CACHE_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.kv_cache_memory_mb',
    'kvCacheMemoryMb',
    orWord(integer(1, 16_777_216, 'MiB'), { auto: null }),
    null,
    'keys and values of all ranks together (ours); auto: from the memory that is free',
  ),
  modelKey(
    'option.kv_cache_dtype',
    'kvCacheDtype',
    choice<KvCacheDtype>({
      ...{ auto: { value: 'auto' }, fp32: { value: 'fp32' } },
      ...{ fp16: { value: 'fp16' }, int8: { value: 'int8' } },
    }),
    'auto',
    'keys and values are held as fp32, as fp16, half the memory, or as int8 with a scale a row, a quarter (fp32 where the machine has no kernels of ours); auto: fp32',
  ),
  modelKey(
    'option.preemption_mode',
    'preemptionMode',
    oneOf('recompute', 'swap'),
    'recompute',
    'where KV memory runs out the youngest sequence waits, and is computed again; swap: its keys and values are kept meanwhile, as far as option.swap_space holds them (on the CPU: on GPUs a sequence has the memory of its full length, and none is preempted)',
  ),
  modelKey(
    'option.swap_space',
    'swapSpaceGb',
    amount(0, 16_384, 'GiB'),
    4,
    'memory of a rank for keys and values of preempted sequences, beside that of those that run; with option.preemption_mode=swap only',
  ),
  modelKey(
    'option.enable_prefix_caching',
    'prefixCaching',
    boolean(),
    true,
    'keys and values of a prompt that begins like an earlier one are not computed again',
  ),
  modelKey(
    'option.report_cached_tokens',
    'reportCachedTokens',
    boolean(),
    false,
    'usage.cached_tokens is told also to requests with neither key nor cache_salt, to whom it tells what others have sent (ours)',
  ),
];
