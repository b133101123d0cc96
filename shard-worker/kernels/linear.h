/** Inside the library: the layout of panels and of rounded rows, and what each set of instructions implements. */
#pragma once
#include "kernels.h"

namespace ss {

/** Outputs of a panel. */
constexpr int PANEL = 32;
/** Values of a row that share a scale. */
constexpr int STEP = 32;
/** Rows of one round over the weights; bounds scratch memory, rounded rows stay in the second-level cache. */
constexpr int MAX_ROUND_ROWS = 512;
constexpr int MAX_GROUP = 16;
constexpr int64_t ROUND_BYTES = 1 << 20;

/** A linear's format and size; `valid()` was asked before anything else. */
struct Format {
  int64_t inputs, outputs;
  int32_t bits, block, flags, pieces;

  bool valid() const;
  bool quantised() const { return bits < 16; }
  bool zero() const { return (flags & SS_ZERO) != 0; }
  /** Bytes of a rounded value of a row. */
  int width() const { return flags & SS_ROWS16 ? 2 : 1; }
  /** Inputs of a piece, whose sum begins at 0. */
  int64_t piece_inputs() const { return inputs / pieces; }
  int64_t panels() const { return (outputs + PANEL - 1) / PANEL; }
  int64_t record_bytes() const { return 64 + (zero() ? 64 : 0) + (int64_t)block * PANEL * bits / 8; }
  int64_t panel_bytes() const {
    if (!quantised()) return inputs * PANEL * (bits / 8);
    return (inputs + block - 1) / block * record_bytes();
  }
  /** What kernels that multiply unsigned codes add to the stored ones, and the zero point of 4 bits. */
  int offset() const { return bits == 8 ? 128 : zero() ? 0 : 8; }
  /** Steps of a row, padded to whole blocks. */
  int64_t steps() const { return (inputs + block - 1) / block * (block / STEP); }
};

/** Of a row and step in a cell: codes, scale, correction, sum. @param width bytes of a value */
constexpr int cell_row(int width) { return STEP * width + 12; }

/**
 * Rows rounded to 8 or 16 bits. Groups of `group` rows; of each group one cell a step:
 * int8 codes[width][group][32], float scale[group], int32 correction[group] (the codes' sum · -offset), float sum of the codes[group].
 * A code of 16 bits is 256 · first + second, both within ±127: two products of 8 bits make one of 16.
 */
struct Rows {
  uint8_t *cells;
  int64_t rows, steps;
  int group, offset, width;

  int64_t cell_bytes() const { return (int64_t)group * cell_row(width); }
  uint8_t *cell(int64_t group_index, int64_t step) const { return cells + (group_index * steps + step) * cell_bytes(); }
  int8_t *codes(uint8_t *cell) const { return (int8_t *)cell; }
  /** Of row `r` of a group; null: codes have 8 bits. */
  int8_t *second(uint8_t *cell, int r) const { return width == 2 ? (int8_t *)cell + (group + r) * STEP : nullptr; }
  float *scales(uint8_t *cell) const { return (float *)(cell + group * width * STEP); }
  int32_t *corrections(uint8_t *cell) const { return (int32_t *)(cell + group * (width * STEP + 4)); }
  float *sums(uint8_t *cell) const { return (float *)(cell + group * (width * STEP + 8)); }
  int64_t groups() const { return (rows + group - 1) / group; }
  int64_t rows_of(int64_t group_index) const { return rows - group_index * group < group ? rows - group_index * group : group; }
};

constexpr int MAX_PIECES = 8;
constexpr int PIECE_LEVELS = 3;

/**
 * Adds pieces as a tree of neighbours, (p0 + p1) + (p2 + p3), with a stack of the left neighbours that still wait.
 * `Value` is any number of sums.
 */
template <typename Value, typename Add>
inline void add_piece(Value *waiting, int index, Value &sum, int pieces, Add add) {
  int depth = 0;
  for (int rest = index; rest & 1; rest >>= 1) depth++;
  int top = __builtin_popcount((unsigned)index);
  for (int i = 0; i < depth; i++) add(sum, waiting[--top]);
  if (index + 1 < pieces) waiting[top] = sum;
}

/** One round: up to MAX_ROUND_ROWS rows. */
struct Round {
  Format format;
  Rows rounded;           // quantised formats
  const float *x;         // others
  int64_t x_stride, rows;
  const uint8_t *weight;
  const float *bias;
  float *y;
  int64_t y_stride;
};

/** Kernels for one set of instructions. */
struct Variant {
  const char *name;
  bool (*available)();
  /** Rows of a group when a round has so many. */
  int (*group)(int64_t rows);
  /** Fills the cells of groups `first` … `end` - 1. */
  void (*round_rows)(const Rows &to, const float *x, int64_t x_stride, int64_t inputs, int64_t first, int64_t end);
  void (*quantised)(const Round &round, int64_t first_panel, int64_t end_panel);
  void (*floats)(const Round &round, int64_t first_panel, int64_t end_panel);
  /** What it must have the bits of on this machine before it is used, where it was never run on such a processor; null: tests ran it there. */
  const Variant *known = nullptr;
  /** Asks the system for what the processor has; null: it is there. */
  bool (*ask)() = nullptr;
};

extern const Variant portable;
#if defined(__x86_64__)
extern const Variant avx2, avx_vnni, avx512, amx;
void floats_avx2(const Round &round, int64_t first_panel, int64_t end_panel);
void floats_avx512(const Round &round, int64_t first_panel, int64_t end_panel);
#else
extern const Variant neon_dotprod, neon_i8mm;
#endif

/** The variant in use. */
const Variant &variant();

/** Runs `part(data, index)` for 0 … count - 1, perhaps at once. */
struct Parallel {
  int32_t (*run)(void *context, void (*part)(void *data, size_t index), size_t count, void *data);
  void *context;
  int threads;
};

struct Call {
  Format format;
  const float *x;
  int64_t x_stride;
  const uint8_t *weight;
  const float *bias;
  float *y;
  int64_t y_stride, rows, first_panel, end_panel;
};

/** The whole product, in rounds; sizes were checked. */
int32_t linear(const Variant &kernels, const Call &call, const Parallel &parallel);

/** Computes small products by both. @returns SS_USABLE where they have the same bits */
int32_t prove(const Variant &tried, const Variant &known);

// A scale below this is 0: dividing by it would overflow. The largest value of its step is so small that no weight makes it count.
constexpr float SMALLEST_MAGNITUDE = 1e-30f;

}  // namespace ss
