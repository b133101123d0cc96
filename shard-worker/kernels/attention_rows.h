/**
 * Attention of query rows over keys and values, by vectors of 16 floats that the compiler makes of whatever the processor has.
 * Included by one file a variant, which says how many rows and vectors are multiplied together (SS_ROWS, SS_WIDE), and of few rows (SS_FEW_…, if at all).
 *
 * Order   keys in blocks of 64 that begin at multiples of 64, whoever asks. A score is one chain of fused products over the head's columns; a
 *         block's largest score joins the row's before its exponentials are taken, and what was summed is scaled once a block; the
 *         exponentials are summed in 16 lanes (key modulo 16), added as a tree at the end; a column of the output is one chain over keys.
 * Unseen  a key that a row does not see takes no part in its sums, whatever number is there
 * Few     rows (a token's heads) read keys and values as they are stored, and keep little beside them: what is widened first, for all rows of a
 *         tile, takes the first-level cache
 */
#pragma once
#include "attention_lanes.h"

namespace ss {
namespace {

/** Keys of a block turned over: floats, or halves as transpose_rows leaves them. */
struct FloatKeys {
  const float *at;
  SS_INLINE_MEMBER Floats numbers(int64_t d, int n) const { return load(at + d * KEYS_TOGETHER + 16 * n); }
};
struct HalfKeys {
  const _Float16 *at;
  SS_INLINE_MEMBER Floats numbers(int64_t d, int n) const { return load_numbers(at + half_place(d) + 32 * n); }
};

/** Queries where they are, or number by number of so many rows. */
struct QueryRows {
  const float *const *rows;
  SS_INLINE_MEMBER float number(int r, int64_t d) const { return rows[r][d]; }
};
template <int R>
struct QueryPanel {
  const float *at;
  SS_INLINE_MEMBER float number(int r, int64_t d) const { return at[d * R + r]; }
};

/** Scores of R rows with N · 16 keys, from the `first`-th 16 of a block on. */
template <int R, int N, class Queries, class Keys>
SS_INLINE void score_rows(Queries queries, Keys keys, int first, int64_t dim, float *scores, Stream &stream) {
  Stream ahead = stream;
  Floats sums[R][N];
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) sums[r][n] = all(0.0f);
  for (int64_t d = 0; d < dim; d++) {
    ahead.tick();
    Floats key[N];
    for (int n = 0; n < N; n++) key[n] = keys.numbers(d, first + n);
    for (int r = 0; r < R; r++) {
      const Floats query = all(queries.number(r, d));
      for (int n = 0; n < N; n++) sums[r][n] = fused(query, key[n], sums[r][n]);
    }
  }
  stream = ahead;
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) store(scores + r * KEYS_TOGETHER + 16 * (first + n), sums[r][n]);
}

/** With all keys of a block, N · 16 at a time. */
template <int R, int N, class Queries, class Keys>
SS_INLINE void score_groups(Queries queries, Keys keys, int groups, int64_t dim, float *scores, Stream &stream) {
  int n = 0;
  for (; n + N <= groups; n += N) score_rows<R, N>(queries, keys, n, dim, scores, stream);
  for (; n < groups; n++) score_rows<R, 1>(queries, keys, n, dim, scores, stream);
}

/** Values of a block as they are stored, or widened. */
template <class Number>
struct ValueRows {
  const Number *at;
  int64_t stride;
  /** D · 16 columns from `column` on. */
  template <int D>
  SS_INLINE_MEMBER void numbers(int key, int64_t column, Floats *value) const {
    for (int d = 0; d < D; d++) value[d] = load_numbers(at + key * stride + column + 16 * d);
  }
};
template <>
struct ValueRows<int8_t> {
  const int8_t *at;
  int64_t stride;
  template <int D>
  SS_INLINE_MEMBER void numbers(int key, int64_t column, Floats *value) const {
    const int8_t *row = at + key * stride;
    float scale;
    __builtin_memcpy(&scale, row + stride - sizeof scale, sizeof scale);
    for (int d = 0; d < D; d++) value[d] = load_numbers(row + column + 16 * d) * scale;
  }
};

/** Adds keys `low` … `high` - 1 of a block to D · 16 columns of R rows' sums. */
template <int R, int D, class Values>
SS_INLINE void add_values(const float *weights, Values values, int64_t column, int low, int high, const float *scales,
                          float *sums, int64_t width, Stream &stream) {
  Stream ahead = stream;
  Floats acc[R][D];
  for (int r = 0; r < R; r++)
    for (int d = 0; d < D; d++) acc[r][d] = load(sums + r * width + column + 16 * d) * scales[r];
  for (int key = low; key < high; key++) {
    ahead.tick();
    Floats value[D];
    values.template numbers<D>(key, column, value);
    for (int r = 0; r < R; r++) {
      const Floats weight = all(weights[r * KEYS_TOGETHER + key]);
      for (int d = 0; d < D; d++) acc[r][d] = fused(weight, value[d], acc[r][d]);
    }
  }
  stream = ahead;
  for (int r = 0; r < R; r++)
    for (int d = 0; d < D; d++) store(sums + r * width + column + 16 * d, acc[r][d]);
}

/** To all columns, D · 16 at a time. */
template <int R, int D, class Values>
SS_INLINE void add_all_values(const float *weights, Values values, int low, int high, const float *scales, float *sums,
                              int64_t width, Stream &stream) {
  if (low >= high) return;
  int64_t column = 0;
  for (; column + 16 * D <= width; column += 16 * D)
    add_values<R, D>(weights, values, column, low, high, scales, sums, width, stream);
  for (; column < width; column += 16)
    add_values<R, 1>(weights, values, column, low, high, scales, sums, width, stream);
}

/** What a row sees of a block, and what its sums so far are multiplied by. */
struct Tile {
  float *scores;  // [rows][KEYS_TOGETHER]
  float *sums;    // [rows][padded dim]
  float *lanes;   // [rows][16]: sum of exponentials
  float *most;    // [rows]: largest score so far
  float *scales;  // [rows]
  const float *queries[ROWS_TOGETHER];
  int low[ROWS_TOGETHER], high[ROWS_TOGETHER];
};

SS_SHARED void weigh_row(Tile &tile, int row, int groups, float soft_cap) {
  const int low = tile.low[row], high = tile.high[row];
  tile.scales[row] = 1.0f;
  if (low >= high) return;
  float *scores = tile.scores + row * KEYS_TOGETHER;
  const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Floats none = all(-__builtin_inff());
  Floats most = none;
  Floats seen[KEYS_TOGETHER / 16];
  for (int n = 0; n < groups; n++) {
    Floats s = load(scores + 16 * n);
    if (soft_cap != 0) s = hyperbolic_tangent(s / soft_cap) * soft_cap;
    if (low > 16 * n || high < 16 * n + 16) {
      const Ints key = lane + 16 * n;
      s = choose((key >= low) & (key < high), s, none);
    }
    seen[n] = s;
    most = choose(s > most, s, most);
  }
  const float before = tile.most[row];
  const float block = largest(most);
  const float now = block > before ? block : before;
  // Of what was there before, nothing where nothing was; most blocks change nothing.
  float scale = 1.0f;
  if (!(before == now)) scale = before == -__builtin_inff() ? 0.0f : exponential(all(before - now))[0];
  Floats sum = load(tile.lanes + 16 * row) * scale;
  for (int n = 0; n < groups; n++) {
    Floats weight = exponential(seen[n] - now);
    if (low > 16 * n || high < 16 * n + 16) {
      // Where all that is seen is minus infinity, what is not seen would be NaN too.
      const Ints key = lane + 16 * n;
      weight = choose((key >= low) & (key < high), weight, all(0.0f));
    }
    store(scores + 16 * n, weight);
    sum += weight;
  }
  store(tile.lanes + 16 * row, sum);
  tile.most[row] = now;
  tile.scales[row] = scale;
}

/** Of turning over a column of 16 keys, and of weighing a row of a block; measured roughly, of no consequence but for when memory is asked for. */
constexpr int64_t TURN_CYCLES = 2, WEIGH_CYCLES = 60;
/** Rows of a tile that are few. */
constexpr int MOST_FEW = 8;

/** What is asked for ahead of a block: the keys and values of the next one. */
struct Ahead {
  const char *keys, *values;
  int64_t bytes;
};

/** Rows of a few heads, which read keys and values as they are stored. */
template <int R, int N, class Keys, class Number>
SS_INLINE void attend_few(Tile &tile, const float *panel, int count, Keys keys, int groups, ValueRows<Number> values, const Ahead &ahead,
                          int64_t dim, float soft_cap, Stream &stream) {
  const int rounds = (count + R - 1) / R;
  stream.spread(1, 1, rounds * dim * (groups / N + groups % N));
  for (int row = 0; row < count; row += R)
    score_groups<R, N>(QueryPanel<R>{panel + row * dim}, keys, groups, dim, tile.scores + row * KEYS_TOGETHER, stream);
  const int low = tile.low[0], high = tile.high[0];
  bool alike = true;
  for (int row = 1; row < count; row++) alike = alike && tile.low[row] == low && tile.high[row] == high;
  const int64_t weighing = count * WEIGH_CYCLES, adding = (high - low) * count * dim / 32;
  stream.start(ahead.values, ahead.bytes);
  stream.spread(weighing, weighing + adding, count);
  for (int row = 0; row < count; row++) {
    stream.tick();
    weigh_row(tile, row, groups, soft_cap);
  }
  stream.spread(1, 1, rounds * (dim / (16 * N) + dim / 16 % N) * (high - low));
  if (alike) {
    for (int row = 0; row < count; row += R)
      add_all_values<R, N>(tile.scores + row * KEYS_TOGETHER, values, low, high, tile.scales + row, tile.sums + row * dim, dim, stream);
    return;
  }
  for (int row = 0; row < count; row++)
    add_all_values<1, N>(tile.scores + row * KEYS_TOGETHER, values, tile.low[row], tile.high[row], tile.scales + row, tile.sums + row * dim,
                         dim, stream);
}

/** Rows of many tokens or heads, for all of which keys and values are widened first. */
template <class Values>
SS_INLINE void add_many(Tile &tile, int count, Values values, int64_t width, Stream &stream) {
  for (int row = 0; row < count;) {
    const int low = tile.low[row], high = tile.high[row];
    bool alike = row + SS_ROWS <= count;
    for (int r = 1; alike && r < SS_ROWS; r++) alike = tile.low[row + r] == low && tile.high[row + r] == high;
    const float *weights = tile.scores + row * KEYS_TOGETHER;
    float *sums = tile.sums + row * width;
    if (alike) add_all_values<SS_ROWS, SS_WIDE>(weights, values, low, high, tile.scales + row, sums, width, stream);
    else add_all_values<1, SS_WIDE>(weights, values, low, high, tile.scales + row, sums, width, stream);
    row += alike ? SS_ROWS : 1;
  }
}

/** The place of keys that are turned over. */
template <class Number>
struct Turned {
  using Place = float;
  using Keys = FloatKeys;
  static constexpr int APART = 16;
};
template <>
struct Turned<_Float16> {
  using Place = _Float16;
  using Keys = HalfKeys;
  static constexpr int APART = 32;
};

/** @tparam F rows together of a few, and W their width; 0: they are many */
template <class Number, int F, int W>
void attend_tile(const AttendJob &job, int64_t first_row, int count, float *scratch) {
  const int64_t dim = job.dim, width = padded(dim);
  float *keys = scratch;
  float *wide_values = keys + width * KEYS_TOGETHER;
  Tile tile;
  tile.sums = wide_values + width * KEYS_TOGETHER;
  tile.scores = tile.sums + width * ROWS_TOGETHER;
  tile.lanes = tile.scores + KEYS_TOGETHER * ROWS_TOGETHER;
  tile.most = tile.lanes + 16 * ROWS_TOGETHER;
  tile.scales = tile.most + ROWS_TOGETHER;
  // Rows that the last few lack are multiplied with the others.
  const int rows_made = F ? (count + (F ? F : 1) - 1) / (F ? F : 1) * F : count;
  float *panel = tile.sums + MOST_FEW * width;
  for (int64_t i = 0; i < rows_made * width; i++) tile.sums[i] = 0;
  for (int row = count; row < rows_made; row++) {
    tile.scales[row] = 1.0f;
    for (int key = 0; key < KEYS_TOGETHER; key++) tile.scores[row * KEYS_TOGETHER + key] = 0;
  }
  int64_t start = INT64_MAX, end = 0;
  int64_t from[ROWS_TOGETHER], to[ROWS_TOGETHER];
  for (int row = 0; row < count; row++) {
    const int64_t token = (first_row + row) / job.heads, head = (first_row + row) % job.heads;
    const int64_t position = job.position + token;
    tile.queries[row] = job.query + token * job.token_stride + head * dim;
    to[row] = job.bidirectional ? job.bidirectional : position + 1;
    from[row] = job.window && position + 1 > job.window ? position + 1 - job.window : 0;
    start = from[row] < start ? from[row] : start;
    end = to[row] > end ? to[row] : end;
    store(tile.lanes + 16 * row, all(0.0f));
    tile.most[row] = -__builtin_inff();
    if (job.sink_column >= 0) {
      tile.most[row] = tile.queries[row][job.sink_column];
      tile.lanes[16 * row] = 1.0f;
    }
  }
  if constexpr (F != 0) {
    for (int row = 0; row < rows_made; row++)
      for (int64_t d = 0; d < dim; d++) panel[row / F * F * dim + d * F + row % F] = row < count ? tile.queries[row][d] : 0;
  }
  const Number *key_rows = (const Number *)job.keys, *value_rows = (const Number *)job.values;
  const bool values_as_they_are = sizeof(Number) == sizeof(float) && width == dim;
  for (int64_t base = start / KEYS_TOGETHER * KEYS_TOGETHER; base < end; base += KEYS_TOGETHER) {
    const int64_t left = end - base;
    const int groups = left >= KEYS_TOGETHER ? KEYS_TOGETHER / 16 : (int)((left + 15) / 16);
    int first_seen = KEYS_TOGETHER, last_seen = 0;
    for (int row = 0; row < count; row++) {
      const int64_t low = from[row] - base, high = to[row] - base;
      tile.low[row] = low < 0 ? 0 : low > KEYS_TOGETHER ? KEYS_TOGETHER : (int)low;
      tile.high[row] = high < 0 ? 0 : high > KEYS_TOGETHER ? KEYS_TOGETHER : (int)high;
      if (tile.low[row] >= tile.high[row]) continue;
      first_seen = tile.low[row] < first_seen ? tile.low[row] : first_seen;
      last_seen = tile.high[row] > last_seen ? tile.high[row] : last_seen;
    }
    // Rows of a text's own step are near already.
    const bool is_cached = job.bidirectional == 0;
    const bool is_cold = is_cached && base <= start && !job.is_announced;
    const int64_t row_size = job.key_stride * (int64_t)sizeof(Number);
    const bool is_last = base + KEYS_TOGETHER >= end;
    const int64_t next_rows = left - KEYS_TOGETHER < KEYS_TOGETHER ? left - KEYS_TOGETHER : KEYS_TOGETHER;
    const int64_t next_at = (base + KEYS_TOGETHER) * row_size;
    const Ahead ahead = is_last ? Ahead{job.next_keys, job.next_values, job.next_keys ? job.next_bytes : 0}
                                : Ahead{job.keys + next_at, job.values + next_at, is_cached ? next_rows * row_size : 0};
    // Shares of time, counted in cycles: keys are asked for while keys are worked on, values with the rest.
    const int64_t turning = groups * dim * TURN_CYCLES, scoring = groups * dim * count / 2;
    Stream stream;
    stream.start(ahead.keys, ahead.bytes);
    stream.spread(turning, turning + scoring, groups * (dim * (int64_t)sizeof(Number) / 16));
    using Place = typename Turned<Number>::Place;
    // Halves that many rows will meet are widened behind.
    Place *const turned = F || sizeof(Place) == sizeof(float) ? (Place *)keys : (Place *)wide_values;
    for (int n = 0; n < groups; n++) {
      if (is_cold) {
        const int64_t at = (base + 16 * n) * row_size;
        fetch_group(job.keys + at + 16 * row_size, job.keys + end * row_size, 16 * row_size);
        fetch_group(job.values + at, job.values + end * row_size, 16 * row_size);
      }
      const Number *rows[16];
      for (int key = 0; key < 16; key++) {
        const int64_t row = base + 16 * n + key;
        rows[key] = key_rows + (row < job.capacity ? row : job.capacity - 1) * job.key_stride;
      }
      transpose_rows(rows, dim, turned + Turned<Number>::APART * n, stream);
    }
    const Number *const block_values = value_rows + base * job.key_stride;
    if constexpr (F != 0) {
      const typename Turned<Number>::Keys own{turned};
      attend_few<F, W>(tile, panel, count, own, groups, ValueRows<Number>{block_values, job.key_stride}, ahead, dim, job.soft_cap, stream);
      continue;
    }
    if constexpr (sizeof(Place) != sizeof(float)) {
      const HalfKeys halves{(const _Float16 *)wide_values};
      for (int64_t d = 0; d < dim; d++)
        for (int n = 0; n < groups; n++) store(keys + d * KEYS_TOGETHER + 16 * n, halves.numbers(d, n));
    }
    if (job.position_column >= 0)
      for (int key = 0; key < 16 * groups; key++) keys[job.position_column * KEYS_TOGETHER + key] = (float)(base + key);
    const int64_t passes = count / SS_ROWS + count % SS_ROWS;
    stream.spread(1, 1, passes * dim * (groups / SS_WIDE + groups % SS_WIDE));
    int row = 0;
    for (; row + SS_ROWS <= count; row += SS_ROWS)
      score_groups<SS_ROWS, SS_WIDE>(QueryRows{tile.queries + row}, FloatKeys{keys}, groups, dim, tile.scores + row * KEYS_TOGETHER, stream);
    for (; row < count; row++)
      score_groups<1, SS_WIDE>(QueryRows{tile.queries + row}, FloatKeys{keys}, groups, dim, tile.scores + row * KEYS_TOGETHER, stream);
    // A last block may have few rows.
    const int64_t seen = last_seen > first_seen ? last_seen - first_seen : 1;
    const int64_t weighing = count * WEIGH_CYCLES, adding = seen * count * width / 32;
    const int64_t widening = values_as_they_are ? 0 : seen * width / 16;
    stream.start(ahead.values, ahead.bytes);
    stream.spread(weighing, weighing + widening + adding, count);
    for (row = 0; row < count; row++) {
      stream.tick();
      weigh_row(tile, row, groups, job.soft_cap);
    }
    const int64_t ticks = passes * (width / (16 * SS_WIDE) + width / 16 % SS_WIDE) * seen;
    if (values_as_they_are) {
      stream.spread(1, 1, ticks);
      add_many(tile, count, ValueRows<float>{(const float *)block_values, job.key_stride}, width, stream);
      continue;
    }
    stream.spread(widening, widening + adding, seen);
    for (int key = first_seen; key < last_seen; key++) {
      stream.tick();
      widen_row(block_values + key * job.key_stride, dim, width, wide_values + key * width);
    }
    stream.spread(1, 1, ticks);
    add_many(tile, count, ValueRows<float>{wide_values, width}, width, stream);
  }
  for (int row = 0; row < count; row++) {
    const int64_t token = (first_row + row) / job.heads, head = (first_row + row) % job.heads;
    float *output = job.output + token * job.token_stride + head * dim;
    const float total = tree_sum(load(tile.lanes + 16 * row));
    for (int64_t d = 0; d < dim; d++) output[d] = tile.sums[row * width + d] / total;
  }
}

/** One row has nobody to share a number with, up to SS_ROWS are one group. */
template <class Number>
void attend_tiles(const AttendJob &job, int64_t row, int count, float *scratch) {
#if defined(SS_FEW_ROWS)
  // What is added lies in whole vectors, and a position no half may hold.
  const bool as_stored = job.dim % 16 == 0 && job.position_column < 0 && count <= MOST_FEW;
  if (as_stored && count == 1) return attend_tile<Number, 1, SS_WIDE>(job, row, count, scratch);
  if (as_stored && count <= SS_ROWS) return attend_tile<Number, SS_ROWS, SS_WIDE>(job, row, count, scratch);
  if (as_stored) return attend_tile<Number, SS_FEW_ROWS, SS_FEW_WIDE>(job, row, count, scratch);
#endif
  attend_tile<Number, 0, 0>(job, row, count, scratch);
}

void attend_rows(const AttendJob &job, int64_t first_row, int64_t end_row, float *scratch) {
  for (int64_t row = first_row; row < end_row; row += ROWS_TOGETHER) {
    const int count = end_row - row < ROWS_TOGETHER ? (int)(end_row - row) : ROWS_TOGETHER;
    if (job.type == SS_KV_HALF) attend_tiles<_Float16>(job, row, count, scratch);
    else if (job.type == SS_KV_INT8) attend_tiles<int8_t>(job, row, count, scratch);
    else attend_tiles<float>(job, row, count, scratch);
  }
}

void store_halves(const float *from, uint16_t *to, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    const float x = from[i], most = 65504.0f;
    const _Float16 half = (_Float16)(x > most ? most : x < -most ? -most : x);
    __builtin_memcpy(to + i, &half, 2);
  }
}

/** Smaller rows are zeros: 127 / largest would be no number. */
constexpr float LEAST_LARGEST = 1e-30f;

void store_bytes(const float *from, int8_t *to, int64_t count) {
  int32_t most_bits = 0;
  for (int64_t i = 0; i < count; i++) {
    int32_t bits;
    __builtin_memcpy(&bits, from + i, 4);
    bits &= 0x7fffffff;
    most_bits = bits > most_bits ? bits : most_bits;
  }
  float most;
  __builtin_memcpy(&most, &most_bits, 4);
  const bool is_number = most_bits < 0x7f800000, counts = is_number && most >= LEAST_LARGEST;
  const float factor = counts ? 127.0f / most : 0.0f;
  const float scale = counts ? most / 127.0f : is_number ? 0.0f : __builtin_nanf("");
  for (int64_t i = 0; i < count; i++) {
    // Ties to even: a number of 24 bits has no room for a fraction.
    const float level = from[i] * factor, shifted = level + 12582912.0f;
    int32_t code;
    __builtin_memcpy(&code, &shifted, 4);
    to[i] = counts ? (int8_t)code : (int8_t)0;
  }
  __builtin_memcpy(to + count, &scale, 4);
}

}  // namespace
}  // namespace ss
