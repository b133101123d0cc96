/**
 * Attention of query rows over keys and values, by vectors of 16 floats that the compiler makes of whatever the processor has.
 * Included by one file a variant.
 *
 * Order   keys in blocks of 64 that begin at multiples of 64, whoever asks. A score is one chain of fused products over the head's columns; a
 *         block's largest score joins the row's before its exponentials are taken, and what was summed is scaled once a block; the
 *         exponentials are summed in 16 lanes (key modulo 16), added as a tree at the end; a column of the output is one chain over keys.
 * Unseen  a key that a row does not see takes no part in its sums, whatever number is there
 * exp     within 2 units in the last place where the result is normal, below 2^-126 it is 0; tanh within 4
 */
#pragma once
#include "attention.h"

namespace ss {
namespace {

#define SS_INLINE static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef float Four __attribute__((vector_size(16)));
typedef float Eight __attribute__((vector_size(32)));
typedef _Float16 Halves __attribute__((vector_size(32)));
typedef int8_t Bytes __attribute__((vector_size(16)));

SS_INLINE Floats load(const float *from) {
  Floats v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
SS_INLINE void store(float *to, Floats v) { __builtin_memcpy(to, &v, sizeof v); }
SS_INLINE Floats all(float x) { return Floats{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
SS_INLINE Floats fused(Floats a, Floats b, Floats c) { return __builtin_elementwise_fma(a, b, c); }
SS_INLINE Floats choose(Ints where, Floats a, Floats b) { return (Floats)((where & (Ints)a) | (~where & (Ints)b)); }

SS_INLINE Floats load_numbers(const float *from) { return load(from); }
SS_INLINE Floats load_numbers(const _Float16 *from) {
  Halves v;
  __builtin_memcpy(&v, from, sizeof v);
  return __builtin_convertvector(v, Floats);
}

/** A row's numbers as floats, and zeros up to `width`. */
template <class Number>
SS_INLINE void widen_row(const Number *source, int64_t dim, int64_t width, float *target) {
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16) store(target + d, load_numbers(source + d));
  for (; d < width; d++) target[d] = d < dim ? (float)source[d] : 0.0f;
}
SS_INLINE void widen_row(const int8_t *source, int64_t dim, int64_t width, float *target) {
  float scale;
  __builtin_memcpy(&scale, source + dim, sizeof scale);
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16) {
    Bytes v;
    __builtin_memcpy(&v, source + d, sizeof v);
    store(target + d, __builtin_convertvector(v, Floats) * scale);
  }
  for (; d < width; d++) target[d] = d < dim ? (float)source[d] * scale : 0.0f;
}

/** Where x is NaN it stays so. */
SS_INLINE Floats exponential(Floats x) {
  const Floats capped = choose(x > 88.0f, all(88.0f), x);
  const Floats magic = all(12582912.0f);
  const Floats shifted = fused(capped, all(1.44269504f), magic);
  const Floats k = shifted - magic;
  // ln 2 in two parts, of which the first has few bits.
  const Floats r = fused(k, all(-1.42860677e-6f), fused(k, all(-0.693145752f), capped));
  Floats p = all(1.0f / 5040);
  p = fused(p, r, all(1.0f / 720));
  p = fused(p, r, all(1.0f / 120));
  p = fused(p, r, all(1.0f / 24));
  p = fused(p, r, all(1.0f / 6));
  p = fused(p, r, all(0.5f));
  p = fused(p, r, all(1.0f));
  p = fused(p, r, all(1.0f));
  const Ints bits = (Ints)p + ((Ints)shifted << 23);
  const Floats value = choose(x < -87.33654f, all(0.0f), (Floats)bits);
  return choose(x == x, value, x);
}

SS_INLINE Floats hyperbolic_tangent(Floats x) {
  const Floats size = (Floats)((Ints)x & 0x7fffffff);
  // The continued fraction of tanh to its fifth term.
  const Floats z = x * x;
  const Floats near = x * fused(fused(z, all(1.0f), all(105.0f)), z, all(945.0f)) /
                      fused(fused(z, all(15.0f), all(420.0f)), z, all(945.0f));
  const Floats far = all(1.0f) - all(2.0f) / (exponential(size + size) + 1.0f);
  const Floats signed_far = (Floats)((Ints)far | ((Ints)x & (int32_t)0x80000000));
  return choose(x == x, choose(size < 0.6f, near, signed_far), x);
}

#define SS_HALF(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15)
#define SS_QUARTER(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7)
#define SS_TWO(v) __builtin_shufflevector(v, v, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3)
#define SS_ONE(v) __builtin_shufflevector(v, v, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)

SS_INLINE Floats larger(Floats a, Floats b) { return choose(b > a, b, a); }

SS_INLINE float largest(Floats v) {
  v = larger(v, SS_HALF(v));
  v = larger(v, SS_QUARTER(v));
  v = larger(v, SS_TWO(v));
  return larger(v, SS_ONE(v))[0];
}

/** Neighbours at a distance of 8 first, then 4, 2 and 1. */
SS_INLINE float tree_sum(Floats v) {
  v += SS_HALF(v);
  v += SS_QUARTER(v);
  v += SS_TWO(v);
  return (v + SS_ONE(v))[0];
}

SS_INLINE Four four_numbers(const float *from) {
  Four v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
SS_INLINE Four four_numbers(const _Float16 *from) {
  typedef _Float16 FourHalves __attribute__((vector_size(8)));
  FourHalves v;
  __builtin_memcpy(&v, from, sizeof v);
  return __builtin_convertvector(v, Four);
}

SS_INLINE Floats join(Four a, Four b, Four c, Four d) {
  const Eight low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
  const Eight high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

#define SS_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define SS_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define SS_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define SS_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)

/** Columns of 16 rows, [dim][KEYS_TOGETHER]: `to` is the first row's place. */
template <class Number>
SS_INLINE void transpose_rows(const Number *const rows[16], int64_t dim, float *to) {
  int64_t d = 0;
  for (; d + 4 <= dim; d += 4) {
    Floats w[4];
    for (int i = 0; i < 4; i++)
      w[i] = join(four_numbers(rows[i] + d), four_numbers(rows[4 + i] + d), four_numbers(rows[8 + i] + d),
                  four_numbers(rows[12 + i] + d));
    const Floats low01 = SS_LOW(w[0], w[1]), high01 = SS_HIGH(w[0], w[1]);
    const Floats low23 = SS_LOW(w[2], w[3]), high23 = SS_HIGH(w[2], w[3]);
    store(to + (d + 0) * KEYS_TOGETHER, SS_LOW2(low01, low23));
    store(to + (d + 1) * KEYS_TOGETHER, SS_HIGH2(low01, low23));
    store(to + (d + 2) * KEYS_TOGETHER, SS_LOW2(high01, high23));
    store(to + (d + 3) * KEYS_TOGETHER, SS_HIGH2(high01, high23));
  }
  for (; d < dim; d++)
    for (int key = 0; key < 16; key++) to[d * KEYS_TOGETHER + key] = (float)rows[key][d];
}

/** Likewise of any numbers. @param wide room for 16 rows of `width` floats, where they are widened first */
template <class Number>
SS_INLINE void transpose_any(const Number *const rows[16], int64_t dim, int64_t, float *, float *to) {
  transpose_rows<Number>(rows, dim, to);
}
SS_INLINE void transpose_any(const int8_t *const rows[16], int64_t dim, int64_t width, float *wide, float *to) {
  const float *floats[16];
  for (int key = 0; key < 16; key++) {
    widen_row(rows[key], dim, width, wide + key * width);
    floats[key] = wide + key * width;
  }
  transpose_rows<float>(floats, dim, to);
}

/**
 * Lines of the next block on their way while this one is computed with: asked for all at once they would be waited for.
 * Of attention of few rows that is half of the time.
 */
struct Stream {
  const char *next, *end;
  int lines;  // at a time

  void start(const void *from, int64_t bytes, int64_t times) {
    next = (const char *)from;
    end = next + bytes;
    lines = (int)((bytes / 64 + times - 1) / times);
  }
};

/** The stream itself is the caller's; here it is in registers. */
SS_INLINE const char *fetch(const char *next, const char *end, int lines) {
  for (int line = 0; line < lines && next < end; line++, next += 64) __builtin_prefetch(next, 0, 2);
  return next;
}

/** A first block, which nobody has announced: a group of keys ahead, and the values. */
SS_INLINE void fetch_group(const char *from, const char *end, int64_t bytes) {
  for (const char *at = from; at < from + bytes && at < end; at += 64) __builtin_prefetch(at, 0, 2);
}

/** Scores of R rows with N · 16 keys. */
template <int R, int N>
SS_INLINE void score_rows(const float *const *queries, const float *keys, int64_t dim, float *scores, Stream &stream) {
  const char *next = stream.next;
  Floats sums[R][N];
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) sums[r][n] = all(0.0f);
  for (int64_t d = 0; d < dim; d++) {
    next = fetch(next, stream.end, stream.lines);
    Floats key[N];
    for (int n = 0; n < N; n++) key[n] = load(keys + d * KEYS_TOGETHER + 16 * n);
    for (int r = 0; r < R; r++) {
      const Floats query = all(queries[r][d]);
      for (int n = 0; n < N; n++) sums[r][n] = fused(query, key[n], sums[r][n]);
    }
  }
  stream.next = next;
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) store(scores + r * KEYS_TOGETHER + 16 * n, sums[r][n]);
}

/** Adds keys `low` … `high` - 1 of a block to D · 16 columns of R rows' sums. */
template <int R, int D>
SS_INLINE void add_values(const float *weights, const float *values, int64_t stride, int low, int high,
                          const float *scales, float *sums, int64_t width, Stream &stream) {
  const char *next = stream.next;
  Floats acc[R][D];
  for (int r = 0; r < R; r++)
    for (int d = 0; d < D; d++) acc[r][d] = load(sums + r * width + 16 * d) * scales[r];
  for (int key = low; key < high; key++) {
    next = fetch(next, stream.end, stream.lines);
    Floats value[D];
    for (int d = 0; d < D; d++) value[d] = load(values + key * stride + 16 * d);
    for (int r = 0; r < R; r++) {
      const Floats weight = all(weights[r * KEYS_TOGETHER + key]);
      for (int d = 0; d < D; d++) acc[r][d] = fused(weight, value[d], acc[r][d]);
    }
  }
  stream.next = next;
  for (int r = 0; r < R; r++)
    for (int d = 0; d < D; d++) store(sums + r * width + 16 * d, acc[r][d]);
}

template <int R>
SS_INLINE void add_all_values(const float *weights, const float *values, int64_t stride, int low, int high,
                              const float *scales, float *sums, int64_t width, Stream &stream) {
  int64_t column = 0;
  for (; column + 16 * SS_WIDE <= width; column += 16 * SS_WIDE)
    add_values<R, SS_WIDE>(weights, values + column, stride, low, high, scales, sums + column, width, stream);
  for (; column < width; column += 16)
    add_values<R, 1>(weights, values + column, stride, low, high, scales, sums + column, width, stream);
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

SS_INLINE void weigh_row(Tile &tile, int row, int groups, float soft_cap) {
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
  // Of what was there before, nothing where nothing was.
  const Floats change = exponential(all(before - now));
  const float scale = before == now ? 1.0f : before == -__builtin_inff() ? 0.0f : change[0];
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

template <int R>
SS_INLINE void score_groups(const Tile &tile, int row, const float *keys, int64_t dim, int groups,
                            Stream &stream) {
  float *scores = tile.scores + row * KEYS_TOGETHER;
  int n = 0;
  for (; n + SS_WIDE <= groups; n += SS_WIDE)
    score_rows<R, SS_WIDE>(tile.queries + row, keys + 16 * n, dim, scores + 16 * n, stream);
  for (; n < groups; n++) score_rows<R, 1>(tile.queries + row, keys + 16 * n, dim, scores + 16 * n, stream);
}

template <class Number>
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
  for (int64_t i = 0; i < count * width; i++) tile.sums[i] = 0;
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
    for (int n = 0; n < groups; n++) {
      if (is_cold) {
        const char *keys_end = (const char *)(key_rows + end * job.key_stride);
        const char *values_end = (const char *)(value_rows + end * job.key_stride);
        const int64_t at = (base + 16 * n) * row_size;
        fetch_group((const char *)key_rows + at + 16 * row_size, keys_end, 16 * row_size);
        fetch_group((const char *)value_rows + at, values_end, 16 * row_size);
      }
      const Number *rows[16];
      for (int key = 0; key < 16; key++) {
        const int64_t row = base + 16 * n + key;
        rows[key] = key_rows + (row < job.capacity ? row : job.capacity - 1) * job.key_stride;
      }
      transpose_any(rows, dim, width, wide_values, keys + 16 * n);
    }
    if (job.position_column >= 0)
      for (int key = 0; key < 16 * groups; key++) keys[job.position_column * KEYS_TOGETHER + key] = (float)(base + key);
    const bool is_last = base + KEYS_TOGETHER >= end;
    const int64_t next_rows = end - base - KEYS_TOGETHER < KEYS_TOGETHER ? end - base - KEYS_TOGETHER : KEYS_TOGETHER;
    const int64_t bytes = !is_cached ? 0 : !is_last ? next_rows * row_size : job.next_keys ? job.next_bytes : 0;
    const int64_t passes = (count + SS_ROWS - 1) / SS_ROWS;
    const char *after = (const char *)(key_rows + (base + KEYS_TOGETHER) * job.key_stride);
    Stream stream;
    stream.start(is_last ? job.next_keys : after, bytes, passes * dim);
    int row = 0;
    for (; row + SS_ROWS <= count; row += SS_ROWS) score_groups<SS_ROWS>(tile, row, keys, dim, groups, stream);
    for (; row < count; row++) score_groups<1>(tile, row, keys, dim, groups, stream);
    for (row = 0; row < count; row++) weigh_row(tile, row, groups, job.soft_cap);
    const float *values = (const float *)(value_rows + base * job.key_stride);
    int64_t stride = job.key_stride;
    if (!values_as_they_are) {
      for (int key = first_seen; key < last_seen; key++)
        widen_row(value_rows + (base + key) * job.key_stride, dim, width, wide_values + key * width);
      values = wide_values;
      stride = width;
    }
    after = (const char *)(value_rows + (base + KEYS_TOGETHER) * job.key_stride);
    // A last block may have few rows.
    const int64_t rows_here = last_seen > first_seen ? last_seen - first_seen : 1;
    stream.start(is_last ? job.next_values : after, bytes, passes * rows_here);
    for (row = 0; row < count;) {
      const int low = tile.low[row], high = tile.high[row];
      bool alike = row + SS_ROWS <= count;
      for (int r = 1; alike && r < SS_ROWS; r++) alike = tile.low[row + r] == low && tile.high[row + r] == high;
      const float *weights = tile.scores + row * KEYS_TOGETHER;
      float *sums = tile.sums + row * width;
      if (alike) {
        if (low < high) add_all_values<SS_ROWS>(weights, values, stride, low, high, tile.scales + row, sums, width, stream);
        row += SS_ROWS;
      } else {
        if (low < high) add_all_values<1>(weights, values, stride, low, high, tile.scales + row, sums, width, stream);
        row++;
      }
    }
  }
  for (int row = 0; row < count; row++) {
    const int64_t token = (first_row + row) / job.heads, head = (first_row + row) % job.heads;
    float *output = job.output + token * job.token_stride + head * dim;
    const float total = tree_sum(load(tile.lanes + 16 * row));
    for (int64_t d = 0; d < dim; d++) output[d] = tile.sums[row * width + d] / total;
  }
}

void attend_rows(const AttendJob &job, int64_t first_row, int64_t end_row, float *scratch) {
  for (int64_t row = first_row; row < end_row; row += ROWS_TOGETHER) {
    const int count = end_row - row < ROWS_TOGETHER ? (int)(end_row - row) : ROWS_TOGETHER;
    if (job.type == SS_KV_HALF) attend_tile<_Float16>(job, row, count, scratch);
    else if (job.type == SS_KV_INT8) attend_tile<int8_t>(job, row, count, scratch);
    else attend_tile<float>(job, row, count, scratch);
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
