/**
 * Vectors of 16 floats for attention_rows.h: exponentials, sums across lanes, rows of keys turned over, memory asked for ahead.
 *
 * exp     within 2 units in the last place where the result is normal, below 2^-126 it is 0; tanh within 4
 */
#pragma once
#include "attention.h"

namespace ss {
namespace {

#define SS_INLINE static inline __attribute__((always_inline))
/** One copy for all that call it. */
#define SS_SHARED static __attribute__((noinline, unused))
#define SS_INLINE_MEMBER inline __attribute__((always_inline))

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

SS_INLINE Floats load_numbers(const int8_t *from) {
  Bytes v;
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
  for (; d + 16 <= dim; d += 16) store(target + d, load_numbers(source + d) * scale);
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

SS_INLINE Floats join(Four a, Four b, Four c, Four d) {
  const Eight low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
  const Eight high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

#define SS_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define SS_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define SS_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define SS_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)

/**
 * Lines of the next block on their way while this one is computed with, evenly over its time: a core waits for no more than some 16 lines at once, so
 * what is asked for in a burst is waited for.
 */
struct Stream {
  const char *next = nullptr, *target = nullptr, *end = nullptr;
  int64_t pace = 0;

  void start(const char *from, int64_t bytes) {
    next = target = from;
    end = from + bytes;
  }
  /** From now on: `part` of `whole` of what is left, in so many ticks. */
  void spread(int64_t part, int64_t whole, int64_t ticks) {
    target = next;
    pace = ticks < 1 || whole < 1 ? 0 : (end - next) * part / whole / ticks + 1;
  }
  SS_INLINE_MEMBER void tick() {
    target = end - target < pace ? end : target + pace;
    for (; next < target; next += 64) __builtin_prefetch(next, 0, 2);
  }
};

#define SS_WORDS(at) at, at + 32, at + 1, at + 33, at + 2, at + 34, at + 3, at + 35
#define SS_LOW_WORDS(a, b) __builtin_shufflevector(a, b, SS_WORDS(0), SS_WORDS(8), SS_WORDS(16), SS_WORDS(24))
#define SS_HIGH_WORDS(a, b) __builtin_shufflevector(a, b, SS_WORDS(4), SS_WORDS(12), SS_WORDS(20), SS_WORDS(28))
#define SS_EIGHT(at) at, at + 64, at + 1, at + 65, at + 2, at + 66, at + 3, at + 67
#define SS_BYTES(at) SS_EIGHT(at), SS_EIGHT(at + 4)
#define SS_LOW_BYTES(a, b) __builtin_shufflevector(a, b, SS_BYTES(0), SS_BYTES(16), SS_BYTES(32), SS_BYTES(48))
#define SS_HIGH_BYTES(a, b) __builtin_shufflevector(a, b, SS_BYTES(8), SS_BYTES(24), SS_BYTES(40), SS_BYTES(56))

/** 16 bytes of each of four rows, four rows apart. */
template <class Number>
SS_INLINE Floats join_rows(const Number *const *rows, int64_t d) {
  Four w[4];
  for (int i = 0; i < 4; i++) __builtin_memcpy(&w[i], rows[4 * i] + d, sizeof w[i]);
  return join(w[0], w[1], w[2], w[3]);
}

/** Columns of 16 rows, [dim][KEYS_TOGETHER]: `to` is the first row's place. */
SS_SHARED void transpose_rows(const float *const rows[16], int64_t dim, float *to, Stream &stream) {
  Stream ahead = stream;
  int64_t d = 0;
  for (; d + 4 <= dim; d += 4) {
    ahead.tick();
    Floats w[4];
    for (int i = 0; i < 4; i++) w[i] = join_rows(rows + i, d);
    const Floats low01 = SS_LOW(w[0], w[1]), high01 = SS_HIGH(w[0], w[1]);
    const Floats low23 = SS_LOW(w[2], w[3]), high23 = SS_HIGH(w[2], w[3]);
    store(to + (d + 0) * KEYS_TOGETHER, SS_LOW2(low01, low23));
    store(to + (d + 1) * KEYS_TOGETHER, SS_HIGH2(low01, low23));
    store(to + (d + 2) * KEYS_TOGETHER, SS_LOW2(high01, high23));
    store(to + (d + 3) * KEYS_TOGETHER, SS_HIGH2(high01, high23));
  }
  stream = ahead;
  for (; d < dim; d++)
    for (int key = 0; key < 16; key++) to[d * KEYS_TOGETHER + key] = rows[key][d];
}

/** Two columns of 16 keys, which lie as 4 keys of each in every 16 bytes. */
SS_INLINE void store_columns(Floats pair, _Float16 *to) {
  typedef int64_t Longs __attribute__((vector_size(64)));
  store((float *)to, (Floats)__builtin_shufflevector((Longs)pair, (Longs)pair, 0, 2, 4, 6, 1, 3, 5, 7));
}

/** Where the first of 16 keys' numbers of column d is among a block's halves: columns two and two. */
SS_INLINE int64_t half_place(int64_t d) { return d / 2 * 2 * KEYS_TOGETHER + d % 2 * 16; }

/** Halves change places as they are, twice as many at a time: from half_place(column) on. */
SS_SHARED void transpose_rows(const _Float16 *const rows[16], int64_t dim, _Float16 *to, Stream &stream) {
  typedef uint16_t Words __attribute__((vector_size(64)));
  Stream ahead = stream;
  int64_t d = 0;
  for (; d + 8 <= dim; d += 8) {
    ahead.tick();
    Words w[4];
    for (int i = 0; i < 4; i++) w[i] = (Words)join_rows(rows + i, d);
    const Floats low01 = (Floats)SS_LOW_WORDS(w[0], w[1]), high01 = (Floats)SS_HIGH_WORDS(w[0], w[1]);
    const Floats low23 = (Floats)SS_LOW_WORDS(w[2], w[3]), high23 = (Floats)SS_HIGH_WORDS(w[2], w[3]);
    _Float16 *at = to + d * KEYS_TOGETHER;
    store_columns(SS_LOW(low01, low23), at);
    store_columns(SS_HIGH(low01, low23), at + 2 * KEYS_TOGETHER);
    store_columns(SS_LOW(high01, high23), at + 4 * KEYS_TOGETHER);
    store_columns(SS_HIGH(high01, high23), at + 6 * KEYS_TOGETHER);
  }
  stream = ahead;
  for (; d < dim; d++)
    for (int key = 0; key < 16; key++) to[half_place(d) + key] = rows[key][d];
}

/** Of four columns, which lie as 4 keys of each in every 16 bytes. `scales`: of the keys. */
SS_INLINE void store_scaled(Floats four, Floats scales, float *to) {
#define SS_COLUMN(at)                                                                                \
  store(to + at * KEYS_TOGETHER,                                                                     \
        __builtin_convertvector((Bytes)__builtin_shufflevector(four, four, at, at + 4, at + 8, at + 12), Floats) * scales)
  SS_COLUMN(0);
  SS_COLUMN(1);
  SS_COLUMN(2);
  SS_COLUMN(3);
#undef SS_COLUMN
}

SS_SHARED void transpose_rows(const int8_t *const rows[16], int64_t dim, float *to, Stream &stream) {
  typedef uint8_t Octets __attribute__((vector_size(64)));
  typedef uint16_t Words __attribute__((vector_size(64)));
  float scale[16];
  for (int key = 0; key < 16; key++) __builtin_memcpy(scale + key, rows[key] + dim, sizeof scale[key]);
  const Floats scales = load(scale);
  Stream ahead = stream;
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16) {
    ahead.tick();
    Octets w[4];
    for (int i = 0; i < 4; i++) w[i] = (Octets)join_rows(rows + i, d);
    const Words low01 = (Words)SS_LOW_BYTES(w[0], w[1]), high01 = (Words)SS_HIGH_BYTES(w[0], w[1]);
    const Words low23 = (Words)SS_LOW_BYTES(w[2], w[3]), high23 = (Words)SS_HIGH_BYTES(w[2], w[3]);
    store_scaled((Floats)SS_LOW_WORDS(low01, low23), scales, to + (d + 0) * KEYS_TOGETHER);
    store_scaled((Floats)SS_HIGH_WORDS(low01, low23), scales, to + (d + 4) * KEYS_TOGETHER);
    store_scaled((Floats)SS_LOW_WORDS(high01, high23), scales, to + (d + 8) * KEYS_TOGETHER);
    store_scaled((Floats)SS_HIGH_WORDS(high01, high23), scales, to + (d + 12) * KEYS_TOGETHER);
  }
  stream = ahead;
  for (; d < dim; d++)
    for (int key = 0; key < 16; key++) to[d * KEYS_TOGETHER + key] = (float)rows[key][d] * scale[key];
}

/** A first block, which nobody has announced: a group of keys ahead, and the values. */
SS_INLINE void fetch_group(const char *from, const char *end, int64_t bytes) {
  for (const char *at = from; at < from + bytes && at < end; at += 64) __builtin_prefetch(at, 0, 2);
}

}  // namespace
}  // namespace ss
