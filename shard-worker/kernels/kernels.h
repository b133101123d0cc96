/**
 * The C functions of the library, called by koffi; kernels and attention read it too.
 *
 * In      little-endian memory of the caller; nothing is kept after a call
 * Limits  SS_MAX_SIZE for each of inputs and outputs; weights in panels as README.md describes them
 * Errors  functions that can refuse return 0 when they did the work and an SS_… code otherwise; nothing is written then
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define SS_EXPORT extern "C" __attribute__((visibility("default")))

/** Largest number of inputs or outputs of one linear. */
#define SS_MAX_SIZE (1 << 24)

enum SsError {
  SS_OK = 0,
  SS_BAD_FORMAT = 1,   // bits, block or flags that no layout has
  SS_BAD_SIZE = 2,     // rows, inputs, outputs or a panel outside the limits
  SS_NO_MEMORY = 3,
  SS_NO_VARIANT = 4,   // the processor lacks it
  SS_BAD_NUMBER = 5,   // a NaN, an infinity, or beyond what the format holds
};

/** What a panel holds. */
enum SsFlags {
  SS_ZERO = 1,    // quantised: each record has zero points
  SS_BFLOAT = 2,  // 16 bits: bfloat16 instead of IEEE half
  SS_SEARCH = 4,  // ss_quantise: scales (and zero points of 4 bits) of least weighted squared error, not the nearest; 8 bits with zero points have none
  SS_ROWS16 = 8,  // ss_linear, quantised: rows are rounded to 16 bits, not to 8; the panels are the same
};

/** Version of everything in this header; the loader refuses another one. */
SS_EXPORT int32_t ss_abi_version(void);
#define SS_ABI_VERSION 3

/** Sets of instructions that this build has kernels for, from 0, worst first; null behind the last. */
SS_EXPORT const char *ss_variant_name(int32_t index);
enum SsVariantState {
  SS_LACKING = 0,       // the processor has no such instructions
  SS_USABLE = 1,
  SS_NO_REGISTERS = 2,  // the system does not give what they need
  SS_OTHER_BITS = 3,    // it was proved here, and gave other bits than another set
  SS_TRAPPED = 4,       // it was proved here, and ended in a signal
  SS_UNPROVEN = 5,      // no memory for the proof
};
/** Whether it is used here: SsVariantState. A set that tests did not run on such a processor is proved by small products first. */
SS_EXPORT int32_t ss_variant_state(int32_t index);
/** The one in use. */
SS_EXPORT int32_t ss_variant(void);
/** Another one from now on; SS_NO_VARIANT when it is not usable. */
SS_EXPORT int32_t ss_use_variant(int32_t index);

/** How many pieces an operator inside ONNX Runtime cuts its work into: the threads of the pool; 1 from the start. */
SS_EXPORT void ss_set_threads(int32_t threads);

/** Bytes of the panels of a weight [outputs, inputs]; 0 for a format or size that there is not. */
SS_EXPORT int64_t ss_panel_bytes(int64_t inputs, int64_t outputs, int32_t bits, int32_t block, int32_t flags);

/**
 * y[rows, outputs] = x[rows, inputs] · weightᵀ + bias, for the panels `first_panel` … `end_panel` - 1 only.
 *
 * `pieces` of the inputs (1, 2, 4 or 8; whole blocks each) have sums of their own, which are added as a tree of neighbours, the bias to
 * the first: what so many ranks would make of it. bits 4 or 8: block 32, 64, 128 or 256; bits 16 or 32: block 0. `bias` may be null. Strides in floats.
 */
SS_EXPORT int32_t ss_linear(const float *x, int64_t x_stride, const void *weight, const float *bias, float *y,
                            int64_t y_stride, int64_t rows, int64_t inputs, int64_t outputs, int32_t bits,
                            int32_t block, int32_t flags, int32_t pieces, int64_t first_panel, int64_t end_panel);

/** Largest head of attention. */
#define SS_MAX_HEAD 1024

/** What attention runs by; which one makes no difference to the bits. */
enum SsAttendVariant { SS_ATTEND_BEST = 0, SS_ATTEND_PORTABLE = 1, SS_ATTEND_AVX2 = 2, SS_ATTEND_AVX512 = 3 };
enum SsAttendWork { SS_ATTEND_WRITE = 1, SS_ATTEND_READ = 2 };
/** What the cache holds. SS_KV_INT8: a row is dim signed bytes and a float, the scale that they are multiplied by (largest magnitude / 127). */
enum SsKvType { SS_KV_FLOAT = 0, SS_KV_HALF = 1, SS_KV_INT8 = 2 };

/**
 * Attention of a model on this rank. Addresses and sizes are doubles, which JavaScript writes without garbage; they are exact below 2^53.
 *
 * query and output: float [tokens, heads · dim]; key and value: float [tokens, kv_heads · dim], all packed. The cache of a sequence has, from
 * its span's `rows` on, a plane of keys for each KV head, then one of values for each, layer after layer; a plane begins `plane_bytes` after the one
 * before and has `capacity` rows of dim numbers (SsKvType).
 */
struct SsAttention {
  double query, key, value, output;
  double plane_bytes, capacity;
  int32_t heads, kv_heads, dim;
  int32_t type;             // SsKvType
  int32_t bidirectional;    // every token sees all of its span, nothing is cached
  int32_t sink_column;      // the query's number there is the score of a key that has no value; -1: none
  int32_t position_column;  // a key's number there is its position, whatever is stored; -1: none
  int32_t variant;
  float soft_cap;           // 0: none
  int32_t unused;
};

/** A sequence's tokens of a step: packed place, number, position of the first, address of its cache. */
struct SsAttendSpan {
  double offset, count, position, rows;
};

/** Bytes that a thread's scratch memory has; 0: there is no such head. */
SS_EXPORT int64_t ss_attend_scratch(int32_t dim);

/**
 * One layer for all sequences of a step. `work`: write the new rows, attend, or both. Of the attending, part `part` of `parts`: parts may run at
 * the same time once all rows are written. `window`: tokens that a query sees, itself included; 0: all.
 */
SS_EXPORT int32_t ss_attend(const SsAttention *shape, const SsAttendSpan *spans, int32_t count, int32_t layer, int32_t window,
                            int32_t work, int32_t part, int32_t parts, float *scratch);

/**
 * Panels `first_panel` … `end_panel` - 1 of a weight; `panels` is where the first of them goes.
 *
 * `rows`: [outputs, inputs] of `type` 0 float32, 1 float16, 2 bfloat16, `row_stride` numbers apart, all rows of the weight.
 * `importance`: what an error in each of the inputs weighs, or null: all the same.
 * `bad`: row · inputs + column of a number that cannot be held, with SS_BAD_NUMBER.
 */
SS_EXPORT int32_t ss_quantise(const void *rows, int32_t type, int64_t row_stride, int64_t outputs, int64_t inputs,
                              int32_t bits, int32_t block, int32_t flags, const float *importance, uint8_t *panels,
                              int64_t first_panel, int64_t end_panel, int64_t *bad);

/**
 * Passes over a rank's slice of a row of logits, in blocks of 128 ids (shard-worker/sampler/slice-scan.ts says what each is for). `count` numbers;
 * `block_max` has a number a block, `positions` room for `count`.
 */
/** Fills block_max. @returns 1 where every logit is finite */
SS_EXPORT int32_t ss_scan_blocks(const float *logits, int64_t count, float *block_max);
/** Sum of exp((logit - max) / temperature); what is below e^-60 is left out. */
SS_EXPORT double ss_scan_mass(const float *logits, int64_t count, const float *block_max, double max, double temperature);
/** Positions of the logits of at least `least`, in order. @returns how many */
SS_EXPORT int64_t ss_scan_reach(const float *logits, int64_t count, const float *block_max, float least, int32_t *positions);
/** Positions from `first`, a block's, on, whose noise hash (noise.ts) is at most their block's limit; a limit below 0: none. @returns how many */
SS_EXPORT int64_t ss_scan_noise(uint32_t key, uint32_t second, int64_t base, int64_t first, int64_t count, const double *limits, int32_t *positions);
/** Another set of instructions (SsAttendVariant) from now on, for tests. */
SS_EXPORT void ss_use_scans(int32_t variant);
