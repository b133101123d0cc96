/**
 * Quantising one block of 32 outputs, a lane each, and packing it; included by one file a set of instructions, which the compiler vectorises.
 *
 * All in doubles, each lane in the order of inputs, without fused operations: the bytes are those of plain code, and of every other set.
 */
#pragma once
#include <math.h>

#include "numbers.h"
#include "quantise.h"

namespace ss {
namespace {

constexpr int LANES = PANEL;
constexpr int MAX_BLOCK = 256;
constexpr int OFFSETS = 5, SYMMETRIC = 4, FITS = 2, EIGHT = 16;
/** A cut of the range by so many levels (weighted-search.ts, scale-search.ts). */
constexpr double OFFSET[OFFSETS] = {-0.8, 0, 0.8, 1.6, 2.6};
constexpr double SYMMETRIC_OFFSET[SYMMETRIC] = {-0.7, 0, 0.7, 1.4};

struct alignas(64) Lanes {
  double at[LANES];
};

#define SS_LANES for (int c = 0; c < LANES; c++)

/** A block: values, what their errors weigh, and whether they count for the range. */
struct Block {
  Lanes value[MAX_BLOCK];
  double weight[MAX_BLOCK];
  double weights;
  bool counts[MAX_BLOCK];
  int count;
};

/** Levels of what was chosen. */
struct Levels {
  alignas(64) int32_t level[MAX_BLOCK][LANES];
};

inline uint16_t half_of(double value) { return float_to_half((float)value); }
inline double rounded_half(double value) { return half_to_float(half_of(value)); }

/** level = the nearest of 0 … most to value · inverse + zero. */
inline void nearest(const Block &block, const Lanes &inverse, const Lanes &zero, double most, Levels &levels) {
  for (int k = 0; k < block.count; k++) {
    SS_LANES {
      double level = block.value[k].at[c] * inverse.at[c] + (zero.at[c] + 0.5);
      level = level > 0 ? level : 0;
      level = level < most ? level : most;
      levels.level[k][c] = (int32_t)level;
    }
  }
}

struct Found {
  Lanes scale, zero;
};

inline void inverse_of(const Lanes &scale, Lanes &inverse) {
  SS_LANES inverse.at[c] = scale.at[c] == 0 ? 0 : 1 / scale.at[c];
}

/** As many lanes as stay in registers: two vectors. */
#if defined(__AVX512F__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int TWO = 2, GROUP = TWO * WIDTH;
typedef double Vector __attribute__((vector_size(WIDTH * 8)));
typedef int64_t Mask __attribute__((vector_size(WIDTH * 8)));
typedef float Floats __attribute__((vector_size(WIDTH * 4)));
typedef int32_t Words __attribute__((vector_size(WIDTH * 4)));

inline Vector all(double value) { return value - Vector{}; }
inline Vector load(const Lanes &lanes, int first) {
  Vector value;
  memcpy(&value, lanes.at + first, sizeof value);
  return value;
}
inline void store(Lanes &lanes, int first, Vector value) { memcpy(lanes.at + first, &value, sizeof value); }

/** The nearest half of each, by way of the nearest float. */
inline Vector rounded_halves(Vector value) {
  const Floats near = __builtin_convertvector(value, Floats);
  Words bits;
  memcpy(&bits, &near, sizeof bits);
  const Words sign = bits & (int32_t)0x80000000, magnitude = bits & 0x7fffffff;
  // Subnormal: 0.5 has its last place where they have theirs.
  Floats tiny;
  memcpy(&tiny, &magnitude, sizeof tiny);
  tiny = (tiny + 0.5f) - 0.5f;
  Words tiny_bits;
  memcpy(&tiny_bits, &tiny, sizeof tiny_bits);
  Words rounded = (magnitude + 0xfff + (magnitude >> 13 & 1)) & ~0x1fff;
  rounded = magnitude < 0x38800000 ? tiny_bits : rounded;
  rounded = magnitude >= 0x477ff000 ? (magnitude > 0x7f800000 ? magnitude : magnitude * 0 + 0x7f800000) : rounded;
  rounded |= sign;
  Floats half;
  memcpy(&half, &rounded, sizeof half);
  return __builtin_convertvector(half, Vector);
}

/** The nearest code that exists. @param half the zero point, and a half */
inline Vector code_of(Vector value, Vector inverse, Vector half, double most = 15) {
  Vector level = value * inverse + half;
  level = level > 0.0 ? level : Vector{};
  level = level < most ? level : all(most);
  return floors(level);
}

/** Scale and zero point, any number, of a group of lanes, by weighted least squares from several cuts of the range: weighted-search.ts, operation by operation. */
inline void search_zero(const Block &block, int first, const Lanes &low, const Lanes &high, Found &found) {
  Vector least[TWO], best_scale[TWO], best_zero[TWO], values[TWO];
  for (int v = 0; v < TWO; v++) {
    least[v] = all(INFINITY);
    best_scale[v] = best_zero[v] = values[v] = Vector{};
  }
  for (int k = 0; k < block.count; k++) {
    for (int v = 0; v < TWO; v++) values[v] += block.weight[k] * load(block.value[k], first + v * WIDTH);
  }
  const double share = 1 / block.weights;
  for (int o = 0; o < OFFSETS; o++) {
    Vector scale[TWO], zero[TWO], inverse[TWO], half[TWO];
    Mask lives[TWO];
    for (int v = 0; v < TWO; v++) {
      const Vector top = load(high, first + v * WIDTH), bottom = load(low, first + v * WIDTH);
      scale[v] = (top - bottom) / (15 + OFFSET[o]);
      inverse[v] = 1 / scale[v];
      zero[v] = 7.5 - (top + bottom) / 2 * inverse[v];
      lives[v] = scale[v] != 0.0;
    }
    for (int fit = 0; fit < FITS; fit++) {
      Vector codes[TWO], squares[TWO], products[TWO];
      for (int v = 0; v < TWO; v++) {
        half[v] = zero[v] + 0.5;
        codes[v] = squares[v] = products[v] = Vector{};
      }
      for (int k = 0; k < block.count; k++) {
        for (int v = 0; v < TWO; v++) {
          const Vector value = load(block.value[k], first + v * WIDTH);
          const Vector code = code_of(value, inverse[v], half[v]);
          const Vector weighted = block.weight[k] * code;
          codes[v] += weighted;
          squares[v] += weighted * code;
          products[v] += weighted * value;
        }
      }
      for (int v = 0; v < TWO; v++) {
        const Vector mean = codes[v] * share;
        const Vector spread = squares[v] - mean * codes[v];
        const Vector slope = (products[v] - mean * values[v]) / spread;
        const Mask fits = (spread > 1e-9 * squares[v]) & (slope > 0.0);
        scale[v] = fits ? slope : scale[v];
        scale[v] = rounded_halves(scale[v]);
        lives[v] &= scale[v] != 0.0;
        inverse[v] = 1 / scale[v];
        zero[v] = rounded_halves(mean - values[v] * share * inverse[v]);
      }
    }
    Vector error[TWO];
    for (int v = 0; v < TWO; v++) {
      half[v] = zero[v] + 0.5;
      error[v] = Vector{};
    }
    for (int k = 0; k < block.count; k++) {
      for (int v = 0; v < TWO; v++) {
        const Vector value = load(block.value[k], first + v * WIDTH);
        const Vector off = value - (code_of(value, inverse[v], half[v]) - zero[v]) * scale[v];
        error[v] += off * off * block.weight[k];
      }
    }
    for (int v = 0; v < TWO; v++) {
      const Mask finite = zero[v] - zero[v] == 0.0;
      const Mask better = lives[v] & finite & (error[v] < least[v]);
      const Mask huge = lives[v] & (least[v] == INFINITY) & (scale[v] == INFINITY);
      least[v] = better ? error[v] : least[v];
      // Nothing but scales beyond a half: refused by whoever reads this one.
      best_scale[v] = (better | huge) ? scale[v] : best_scale[v];
      best_zero[v] = better ? zero[v] : best_zero[v];
    }
  }
  for (int v = 0; v < TWO; v++) {
    const Vector top = load(high, first + v * WIDTH), bottom = load(low, first + v * WIDTH);
    // Code 1 is the value itself.
    const Mask constant = top == bottom;
    store(found.scale, first + v * WIDTH, constant ? rounded_halves(bottom) : best_scale[v]);
    store(found.zero, first + v * WIDTH, constant ? Vector{} : best_zero[v]);
  }
}

/** Scale of a group of lanes, the zero point is 8: scale-search.ts, operation by operation. */
inline void search_symmetric(const Block &block, int first, const Lanes &largest, Found &found) {
  Vector most[TWO], best[TWO];
  for (int v = 0; v < TWO; v++) most[v] = best[v] = Vector{};
  for (int o = 0; o < SYMMETRIC; o++) {
    Vector inverse[TWO], both[TWO], squares[TWO];
    for (int v = 0; v < TWO; v++) {
      inverse[v] = (8 + SYMMETRIC_OFFSET[o]) * (-1 / load(largest, first + v * WIDTH));
      both[v] = squares[v] = Vector{};
    }
    for (int k = 0; k < block.count; k++) {
      for (int v = 0; v < TWO; v++) {
        const Vector value = load(block.value[k], first + v * WIDTH);
        const Vector level = code_of(value, inverse[v], all(8.5)) - 8;
        both[v] += value * level;
        squares[v] += level * level;
      }
    }
    for (int v = 0; v < TWO; v++) {
      const Vector fitted = both[v] / squares[v], taken = both[v] * fitted;
      const Mask better = taken > most[v];
      most[v] = better ? taken : most[v];
      best[v] = better ? fitted : best[v];
    }
  }
  for (int v = 0; v < TWO; v++) {
    store(found.scale, first + v * WIDTH, best[v]);
    store(found.zero, first + v * WIDTH, all(8));
  }
}

/** Scale of a group of lanes with 8 bits, the zero point is 128: eight-bit-search.ts, operation by operation. */
inline void search_eight(const Block &block, int first, const Lanes &largest, Found &found) {
  Vector plain[TWO], least[TWO], best[TWO];
  for (int v = 0; v < TWO; v++) {
    plain[v] = -load(largest, first + v * WIDTH) / 128;
    best[v] = rounded_halves(plain[v]);
    least[v] = all(INFINITY);
  }
  for (int o = 0; o < EIGHT; o++) {
    Vector scale[TWO], inverse[TWO], error[TWO];
    for (int v = 0; v < TWO; v++) {
      scale[v] = rounded_halves(plain[v] * (1 + o * 0.0078125));
      inverse[v] = 1 / scale[v];
      error[v] = Vector{};
    }
    for (int k = 0; k < block.count; k++) {
      for (int v = 0; v < TWO; v++) {
        const Vector value = load(block.value[k], first + v * WIDTH);
        const Vector off = value - (code_of(value, inverse[v], all(128.5), 255) - 128) * scale[v];
        error[v] += off * off * block.weight[k];
      }
    }
    for (int v = 0; v < TWO; v++) {
      const Mask better = (scale[v] != 0.0) & (error[v] < least[v]);
      least[v] = better ? error[v] : least[v];
      best[v] = better ? scale[v] : best[v];
    }
  }
  for (int v = 0; v < TWO; v++) {
    store(found.scale, first + v * WIDTH, best[v]);
    store(found.zero, first + v * WIDTH, all(128));
  }
}

/** One block to one record. @returns lane whose scale a half cannot hold, or -1 */
int quantise_block(const Block &block, const Format &f, bool search, uint8_t *record, Levels &levels) {
  Lanes low, high, largest, inverse, zero;
  Found best;
  SS_LANES {
    low.at[c] = INFINITY;
    high.at[c] = -INFINITY;
    largest.at[c] = 0;
  }
  for (int k = 0; k < block.count; k++) {
    SS_LANES {
      const double value = block.value[k].at[c];
      largest.at[c] = fabs(value) > fabs(largest.at[c]) ? value : largest.at[c];
    }
    if (!block.counts[k]) continue;
    SS_LANES {
      const double value = block.value[k].at[c];
      low.at[c] = value < low.at[c] ? value : low.at[c];
      high.at[c] = value > high.at[c] ? value : high.at[c];
    }
  }
  const double most = f.bits == 4 ? 15 : 255, middle = f.bits == 4 ? 8 : 128;
  if (search && (f.bits == 4 || !f.zero())) {
    for (int first = 0; first < LANES; first += GROUP) {
      if (f.bits == 8) search_eight(block, first, largest, best);
      else if (f.zero()) search_zero(block, first, low, high, best);
      else search_symmetric(block, first, largest, best);
    }
  } else if (f.zero()) {
    SS_LANES {
      const double bottom = low.at[c] < 0 ? low.at[c] : 0, top = high.at[c] > 0 ? high.at[c] : 0;
      best.scale.at[c] = top / most - bottom / most;
      best.zero.at[c] = floor(-bottom / best.scale.at[c] + 0.5);
    }
  } else {
    SS_LANES {
      best.scale.at[c] = -largest.at[c] / middle;
      best.zero.at[c] = middle;
    }
  }
  int bad = -1;
  for (int c = LANES - 1; c >= 0; c--) {
    const double scale = rounded_half(best.scale.at[c]);
    if (isinf(scale)) bad = c;
    const bool nothing = fabs(largest.at[c]) < 0x1p-126 || scale == 0;
    best.scale.at[c] = nothing ? 0 : scale;
    zero.at[c] = nothing ? middle : best.zero.at[c];
  }
  inverse_of(best.scale, inverse);
  nearest(block, inverse, zero, most, levels);
  uint16_t *halves = (uint16_t *)record;
  SS_LANES {
    halves[c] = half_of(best.scale.at[c]);
    if (f.zero()) halves[LANES + c] = half_of(f.bits == 4 ? zero.at[c] : zero.at[c] - 128);
  }
  uint8_t *codes = record + (f.zero() ? 128 : 64);
  for (int k = block.count; k < f.block; k++) {
    SS_LANES {
      const double level = floor(zero.at[c] + 0.5);
      levels.level[k][c] = (int32_t)(level < 0 ? 0 : level > most ? most : level);
    }
  }
  // Four bytes of an output at once.
  const int together = f.bits == 4 ? 8 : 4;
  for (int k = 0; k < f.block; k += together, codes += 128) {
    alignas(64) uint32_t line[LANES];
    SS_LANES line[c] = 0;
    for (int j = 0; j < 4; j++) {
      const int32_t *first = levels.level[k + j], *second = levels.level[k + together - 4 + j];
      if (f.bits == 4) SS_LANES line[c] |= (uint32_t)(first[c] | second[c] << 4) << 8 * j;
      else SS_LANES line[c] |= (uint32_t)(first[c] ^ 0x80) << 8 * j;
    }
    memcpy(codes, line, sizeof line);
  }
  return bad;
}

/** Eight values of each of eight rows: [row][column] becomes [column][row]. */
typedef float Eight __attribute__((vector_size(32)));
inline void turn(Eight (&r)[8]) {
  Eight s[8], t[8];
  for (int i = 0; i < 8; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; j++) {
      t[i + 2 * j] = __builtin_shufflevector(s[i + j], s[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      t[i + 2 * j + 1] = __builtin_shufflevector(s[i + j], s[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; i++) {
    r[i] = __builtin_shufflevector(t[i], t[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(t[i], t[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/** Eight values of a row, of any type. */
inline Eight eight(const Source &from, int64_t row, int64_t column) {
  typedef int32_t Bits __attribute__((vector_size(32)));
  typedef uint16_t Shorts __attribute__((vector_size(16)));
  Eight values;
  const int64_t index = row * from.stride + column;
  if (from.type == Type::FP32) {
    memcpy(&values, from.rows + index * 4, sizeof values);
    return values;
  }
#if defined(__F16C__)
  if (from.type == Type::FP16) {
    typedef _Float16 Halves __attribute__((vector_size(16)));
    Halves halves;
    memcpy(&halves, from.rows + index * 2, sizeof halves);
    return __builtin_convertvector(halves, Eight);
  }
#endif
  if (from.type == Type::BF16) {
    Shorts upper;
    memcpy(&upper, from.rows + index * 2, sizeof upper);
    const Bits bits = __builtin_convertvector(upper, Bits) << 16;
    memcpy(&values, &bits, sizeof values);
    return values;
  }
  for (int j = 0; j < 8; j++) values[j] = from.at(row, column + j);
  return values;
}

/** A lane a row; rows behind the last are 0. @returns whether all are numbers */
inline bool load_block(const Source &from, int64_t first_row, int64_t rows, int64_t column, Block &block) {
  typedef int32_t Bits __attribute__((vector_size(32)));
  typedef double Wide __attribute__((vector_size(64)));
  Bits largest = {};
  for (int c = 0; c < LANES; c += 8) {
    for (int k = 0; k < block.count; k += 8) {
      const int count = block.count - k < 8 ? block.count - k : 8;
      Eight part[8] = {};
      for (int i = 0; i < 8 && first_row + c + i < rows; i++) {
        const int64_t row = first_row + c + i;
        if (count == 8) {
          part[i] = eight(from, row, column + k);
          continue;
        }
        float values[8] = {};
        for (int j = 0; j < count; j++) values[j] = from.at(row, column + k + j);
        memcpy(&part[i], values, sizeof part[i]);
      }
      for (int i = 0; i < 8; i++) {
        Bits bits;
        memcpy(&bits, &part[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
      }
      turn(part);
      for (int j = 0; j < count; j++) {
        const Wide wide = __builtin_convertvector(part[j], Wide);
        memcpy(block.value[k + j].at + c, &wide, sizeof wide);
      }
    }
  }
  int32_t most = 0;
  for (int i = 0; i < 8; i++) most = largest[i] > most ? largest[i] : most;
  return most < 0x7f800000;
}

/** @param importance of the block's inputs; null, or none of them more than 0: alike */
inline void weigh(Block &block, const float *importance) {
  bool any = false;
  block.weights = 0;
  for (int k = 0; k < block.count; k++) {
    block.weight[k] = importance ? importance[k] : 1;
    block.weights += block.weight[k];
    block.counts[k] = block.weight[k] > 0;
    any = any || block.counts[k];
  }
  if (!any) weigh(block, nullptr);
}

/** Where a number is that no half stands for, as row · inputs + column; -1: nowhere. */
int64_t quantise_panel(const Source &from, const Format &f, bool search, int64_t panel, uint8_t *record) {
  Block block;
  Levels levels;
  const int64_t first_row = panel * LANES;
  const float *importance = search ? from.importance : nullptr;
  for (int64_t column = 0; column < f.inputs; column += f.block, record += f.record_bytes()) {
    const int64_t left = f.inputs - column;
    block.count = (int)(left < f.block ? left : f.block);
    weigh(block, importance ? importance + column : nullptr);
    int64_t bad = -1;
    if (!load_block(from, first_row, f.outputs, column, block)) {
      SS_LANES {
        for (int k = 0; k < block.count && bad < 0; k++) {
          if (!isfinite(block.value[k].at[c])) bad = (first_row + c) * f.inputs + column + k;
        }
      }
      return bad;
    }
    const int lane = quantise_block(block, f, search, record, levels);
    if (lane < 0) continue;
    int at = 0;
    for (int k = 1; k < block.count; k++) {
      if (fabs(block.value[k].at[lane]) > fabs(block.value[at].at[lane])) at = k;
    }
    return (first_row + lane) * f.inputs + column + at;
  }
  return -1;
}

}  // namespace
}  // namespace ss
