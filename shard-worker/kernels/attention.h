/**
 * Attention over rows of keys and values: what the variants share.
 *
 * A query row is one head of one token. Its result is a function of its own numbers and of the keys and values it sees, and of nothing
 * else: neither of other rows, nor of how a prompt was cut, nor of the variant. Every sum has one order (attention_rows.h).
 */
#pragma once
#include "kernels.h"

namespace ss {

/** Queries of some heads that share keys, token by token; and the keys that there are. */
struct AttendJob {
  const float *query;   // of the first token's first head of these
  float *output;        // likewise
  int64_t token_stride; // floats from a token to the next, of both
  const char *keys;     // row 0
  const char *values;
  int64_t key_stride;   // numbers from a row to the next, of both; with int8 bytes
  int64_t capacity;     // rows that can be read, seen or not
  int64_t position;     // of the first token
  int64_t window;       // tokens that a query sees, itself included; 0: all
  int64_t bidirectional;// rows that every query sees; 0: those up to its own position
  int32_t heads;
  int32_t dim;
  int32_t type;         // SsKvType of keys and values
  int32_t sink_column;  // the query's number there is the score of a key without a value; -1: none
  int32_t position_column; // of a key there stands its position, whatever is stored; -1: none
  float soft_cap;       // 0: none
  const char *next_keys; // first block of who attends next, to be on its way by then; null: nobody does
  const char *next_values;
  int64_t next_bytes;   // of either
  bool is_announced;    // the first block of this one was
};

using AttendRows = void (*)(const AttendJob &job, int64_t first_row, int64_t end_row, float *scratch);
/** Nearest halves; what is larger than a half can be becomes the largest. */
using StoreHalves = void (*)(const float *from, uint16_t *to, int64_t count);
/** Bytes and their scale behind them; a row with a NaN or an infinity has a NaN for a scale. */
using StoreBytes = void (*)(const float *from, int8_t *to, int64_t count);

constexpr int KEYS_TOGETHER = 64;
constexpr int ROWS_TOGETHER = 64;

/** Bytes of a row of the cache. */
inline int64_t row_bytes(int32_t type, int64_t dim) {
  return type == SS_KV_FLOAT ? dim * 4 : type == SS_KV_HALF ? dim * 2 : dim + 4;
}

inline int64_t padded(int64_t dim) { return (dim + 15) / 16 * 16; }

/** Floats: keys and values of a block, scores and sums of a tile, and four numbers a row. */
inline int64_t attend_scratch(int64_t dim) {
  return padded(dim) * (2 * KEYS_TOGETHER + ROWS_TOGETHER) + (KEYS_TOGETHER + 20) * ROWS_TOGETHER + 64;
}

struct AttendVariant {
  AttendRows rows;
  StoreHalves store_halves;
  StoreBytes store_bytes;
};

extern const AttendVariant attend_portable;
extern const AttendVariant attend_avx2;
extern const AttendVariant attend_avx512;

}  // namespace ss
