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
constexpr int OFFSETS_ZERO = 5, OFFSETS_SYMMETRIC = 14;
/** A cut of the range by so many levels. */
constexpr double OFFSET_ZERO[OFFSETS_ZERO] = {-0.8, 0, 0.8, 1.6, 2.6};
constexpr double FIRST_OFFSET_SYMMETRIC = -1.4, STEP_OFFSET_SYMMETRIC = 0.35;

struct alignas(64) Lanes {
  double at[LANES];
};

#define SS_LANES for (int c = 0; c < LANES; c++)

/** A block: values, and what their errors weigh. */
struct Block {
  Lanes value[MAX_BLOCK];
  double weight[MAX_BLOCK];
  double weights;
  int count;
};

/** Levels of a candidate, and the best so far. */
struct Levels {
  Lanes level[MAX_BLOCK];
};

inline uint16_t half_of(double value) { return float_to_half((float)value); }
inline double rounded_half(double value) { return half_to_float(half_of(value)); }

/** level = the nearest of 0 … 15 to value · inverse + zero. */
inline void nearest(const Block &block, const Lanes &inverse, const Lanes &zero, double most, Levels &levels) {
  for (int k = 0; k < block.count; k++) {
    SS_LANES {
      double level = block.value[k].at[c] * inverse.at[c] + (zero.at[c] + 0.5);
      level = level > 0 ? level : 0;
      level = level < most ? level : most;
      levels.level[k].at[c] = (double)(int32_t)level;
    }
  }
}

struct Found {
  Lanes scale, zero, error;
};

inline void inverse_of(const Lanes &scale, Lanes &inverse) {
  SS_LANES inverse.at[c] = scale.at[c] == 0 ? 0 : 1 / scale.at[c];
}

/** Keeps a candidate where its error is less. */
inline void judge(const Block &block, const Lanes &scale, const Lanes &zero, const Levels &levels, Found &best) {
  Lanes error;
  SS_LANES error.at[c] = 0;
  for (int k = 0; k < block.count; k++) {
    SS_LANES {
      const double off = block.value[k].at[c] - scale.at[c] * (levels.level[k].at[c] - zero.at[c]);
      error.at[c] += block.weight[k] * (off * off);
    }
  }
  SS_LANES {
    const bool better = scale.at[c] != 0 && error.at[c] < best.error.at[c];
    best.error.at[c] = better ? error.at[c] : best.error.at[c];
    best.scale.at[c] = better ? scale.at[c] : best.scale.at[c];
    best.zero.at[c] = better ? zero.at[c] : best.zero.at[c];
  }
}

/** Scale and zero point, any number, by least weighted squares from several cuts of the range. */
inline void search_zero(const Block &block, const Lanes &low, const Lanes &high, Levels &levels, Found &best) {
  Lanes mean;
  SS_LANES mean.at[c] = 0;
  for (int k = 0; k < block.count; k++) SS_LANES mean.at[c] += block.weight[k] * block.value[k].at[c];
  SS_LANES mean.at[c] /= block.weights;
  SS_LANES {
    best.error.at[c] = INFINITY;
    // Of one value: exactly, as far as a half can.
    best.scale.at[c] = low.at[c];
    best.zero.at[c] = 0;
  }
  for (int o = 0; o < OFFSETS_ZERO; o++) {
    Lanes scale, zero, inverse;
    SS_LANES {
      scale.at[c] = (high.at[c] - low.at[c]) / (15 + OFFSET_ZERO[o]);
      zero.at[c] = scale.at[c] == 0 ? 0 : 7.5 - (high.at[c] + low.at[c]) / 2 / scale.at[c];
    }
    for (int turn = 0; turn < 2; turn++) {
      inverse_of(scale, inverse);
      nearest(block, inverse, zero, 15, levels);
      Lanes level_mean, both, squares;
      SS_LANES level_mean.at[c] = both.at[c] = squares.at[c] = 0;
      for (int k = 0; k < block.count; k++) SS_LANES level_mean.at[c] += block.weight[k] * levels.level[k].at[c];
      SS_LANES level_mean.at[c] /= block.weights;
      for (int k = 0; k < block.count; k++) {
        SS_LANES {
          const double level = levels.level[k].at[c] - level_mean.at[c];
          const double weighted = block.weight[k] * level;
          both.at[c] += weighted * (block.value[k].at[c] - mean.at[c]);
          squares.at[c] += weighted * level;
        }
      }
      SS_LANES {
        const double fitted = squares.at[c] > 0 ? both.at[c] / squares.at[c] : 0;
        scale.at[c] = rounded_half(fitted > 0 ? fitted : scale.at[c]);
        zero.at[c] = scale.at[c] == 0 ? 0 : rounded_half(level_mean.at[c] - mean.at[c] / scale.at[c]);
      }
    }
    inverse_of(scale, inverse);
    nearest(block, inverse, zero, 15, levels);
    judge(block, scale, zero, levels, best);
  }
}

/** Scale by least weighted squares from several cuts of the range; the zero point is 8. */
inline void search_symmetric(const Block &block, const Lanes &largest, Levels &levels, Found &best) {
  Lanes zero;
  SS_LANES {
    zero.at[c] = 8;
    best.error.at[c] = INFINITY;
    best.scale.at[c] = -largest.at[c] / 8;
    best.zero.at[c] = 8;
  }
  for (int o = 0; o < OFFSETS_SYMMETRIC; o++) {
    Lanes scale, inverse, both, squares;
    SS_LANES scale.at[c] = rounded_half(-largest.at[c] / (8 + (FIRST_OFFSET_SYMMETRIC + STEP_OFFSET_SYMMETRIC * o)));
    inverse_of(scale, inverse);
    nearest(block, inverse, zero, 15, levels);
    SS_LANES both.at[c] = squares.at[c] = 0;
    for (int k = 0; k < block.count; k++) {
      SS_LANES {
        const double level = levels.level[k].at[c] - 8;
        const double weighted = block.weight[k] * level;
        both.at[c] += weighted * block.value[k].at[c];
        squares.at[c] += weighted * level;
      }
    }
    SS_LANES scale.at[c] = rounded_half(squares.at[c] > 0 ? both.at[c] / squares.at[c] : scale.at[c]);
    inverse_of(scale, inverse);
    nearest(block, inverse, zero, 15, levels);
    judge(block, scale, zero, levels, best);
  }
}

/** One block to one record. @returns lane whose scale a half cannot hold, or -1 */
int quantise_block(const Block &block, const Format &f, bool search, uint8_t *record, Levels &levels) {
  Lanes low, high, largest, inverse, zero;
  Found best;
  SS_LANES {
    low.at[c] = high.at[c] = largest.at[c] = block.value[0].at[c];
  }
  for (int k = 1; k < block.count; k++) {
    SS_LANES {
      const double value = block.value[k].at[c];
      low.at[c] = value < low.at[c] ? value : low.at[c];
      high.at[c] = value > high.at[c] ? value : high.at[c];
      largest.at[c] = fabs(value) > fabs(largest.at[c]) ? value : largest.at[c];
    }
  }
  const double most = f.bits == 4 ? 15 : 255, middle = f.bits == 4 ? 8 : 128;
  if (search && f.bits == 4) {
    if (f.zero()) search_zero(block, low, high, levels, best);
    else search_symmetric(block, largest, levels, best);
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
    const bool constant = search && f.bits == 4 && f.zero() && low.at[c] == high.at[c];
    best.scale.at[c] = nothing ? 0 : scale;
    zero.at[c] = nothing ? middle : constant ? 0 : best.zero.at[c];
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
      levels.level[k].at[c] = level < 0 ? 0 : level > most ? most : level;
    }
  }
  if (f.bits == 4) {
    for (int k = 0; k < f.block; k += 8) {
      for (int j = 0; j < 4; j++) {
        uint8_t *line = codes + k / 8 * 128 + j;
        const Lanes &first = levels.level[k + j], &second = levels.level[k + 4 + j];
        SS_LANES line[4 * c] = (uint8_t)((int32_t)first.at[c] | (int32_t)second.at[c] << 4);
      }
    }
  } else {
    for (int k = 0; k < f.block; k++) {
      uint8_t *line = codes + k / 4 * 128 + k % 4;
      SS_LANES line[4 * c] = (uint8_t)((int32_t)levels.level[k].at[c] ^ 0x80);
    }
  }
  return bad;
}

/** Where a number is that no half stands for, as row · inputs + column; -1: nowhere. */
int64_t quantise_panel(const Source &from, const Format &f, bool search, int64_t panel, uint8_t *record) {
  Block block;
  Levels levels;
  const int64_t first_row = panel * LANES;
  for (int64_t column = 0; column < f.inputs; column += f.block, record += f.record_bytes()) {
    const int64_t left = f.inputs - column;
    block.count = (int)(left < f.block ? left : f.block);
    block.weights = 0;
    for (int k = 0; k < block.count; k++) {
      block.weight[k] = from.importance ? from.importance[column + k] : 1;
      block.weights += block.weight[k];
    }
    if (!(block.weights > 0)) {
      for (int k = 0; k < block.count; k++) block.weight[k] = 1;
      block.weights = block.count;
    }
    int64_t bad = -1;
    SS_LANES {
      const int64_t row = first_row + c;
      for (int k = 0; k < block.count; k++) {
        const float value = row < f.outputs ? from.at(row, column + k) : 0;
        if ((to_bits(value) & 0x7fffffff) >= 0x7f800000 && bad < 0) bad = row * f.inputs + column + k;
        block.value[k].at[c] = value;
      }
    }
    if (bad >= 0) return bad;
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
