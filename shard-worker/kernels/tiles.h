/**
 * The tile instructions of AMX that linear_amx.cpp uses, or, where SS_EMULATE_TILES is defined, the same in plain C++ for tests on processors
 * without them.
 *
 * In      tiles 0 … 7 by number; memory of the caller
 * Errors  the emulation traps (an illegal instruction) where the processor would
 * Source  Intel 64 and IA-32 Architectures Software Developer's Manual: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBSSD, TILERELEASE;
 *         Linux, Documentation/arch/x86/xstate.rst
 */
#pragma once
#include <stdint.h>

namespace ss {

/** What LDTILECFG reads: rows and bytes of a row of each tile. */
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace ss

#if defined(SS_EMULATE_TILES)
#include "cpu.h"

/** A test's: 1: a product is wrong by one; 2: configuring traps. */
extern "C" int ss_tile_fault;

namespace ss {
namespace {

struct EmulatedTiles {
  bool configured;
  TileConfig config;
  uint8_t data[8][16][64];
};
thread_local EmulatedTiles tiles;

inline void require(bool holds) {
  if (!holds) __builtin_trap();
}

inline bool has_tiles() { return cpu().avx512_vnni; }
inline bool ask_for_tiles() { return true; }

inline void tile_configure(const TileConfig &config) {
  require(ss_tile_fault != 2);
  require(config.palette == 1);
  for (uint8_t byte : config.reserved) require(byte == 0);
  for (int i = 0; i < 16; i++) {
    require(config.rows[i] <= 16 && config.row_bytes[i] <= 64);
    require((config.rows[i] == 0) == (config.row_bytes[i] == 0));
    require(i < 8 || config.rows[i] == 0);
  }
  // Tiles are zeroed.
  tiles = EmulatedTiles{true, config, {}};
}

inline void tile_release() { tiles = EmulatedTiles{}; }

inline void require_tile(int tile) { require(tiles.configured && tile >= 0 && tile < 8 && tiles.config.rows[tile] > 0); }

template <int TILE>
inline void tile_zero() {
  require_tile(TILE);
  __builtin_memset(tiles.data[TILE], 0, sizeof tiles.data[TILE]);
}

template <int TILE>
inline void tile_load(const void *from, int64_t stride) {
  tile_zero<TILE>();
  for (int row = 0; row < tiles.config.rows[TILE]; row++) {
    __builtin_memcpy(tiles.data[TILE][row], (const uint8_t *)from + row * stride, tiles.config.row_bytes[TILE]);
  }
}

template <int TILE>
inline void tile_store(void *to, int64_t stride) {
  require_tile(TILE);
  for (int row = 0; row < tiles.config.rows[TILE]; row++) {
    __builtin_memcpy((uint8_t *)to + row * stride, tiles.data[TILE][row], tiles.config.row_bytes[TILE]);
  }
}

/** TDPBSSD: signed bytes; a row of B is four inputs of each column. */
template <int C, int A, int B>
inline void tile_multiply() {
  require_tile(A);
  require_tile(B);
  require_tile(C);
  const TileConfig &config = tiles.config;
  require(A != B && A != C && B != C);
  require(config.row_bytes[A] % 4 == 0 && config.row_bytes[B] % 4 == 0 && config.row_bytes[C] % 4 == 0);
  require(config.rows[C] == config.rows[A] && config.row_bytes[A] / 4 == config.rows[B] && config.row_bytes[C] == config.row_bytes[B]);
  for (int m = 0; m < 16; m++) {
    uint32_t sums[16] = {};
    __builtin_memcpy(sums, tiles.data[C][m], m < config.rows[C] ? config.row_bytes[C] : 0);
    for (int k = 0; k < config.row_bytes[A] / 4 && m < config.rows[C]; k++) {
      for (int n = 0; n < config.row_bytes[C] / 4; n++) {
        for (int i = 0; i < 4; i++) sums[n] += (uint32_t)((int8_t)tiles.data[A][m][4 * k + i] * (int8_t)tiles.data[B][k][4 * n + i]);
      }
    }
    if (ss_tile_fault == 1 && m == 0) sums[0]++;
    __builtin_memcpy(tiles.data[C][m], sums, 64);
  }
}

}  // namespace
}  // namespace ss

#else
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu.h"

namespace ss {
namespace {

inline bool has_tiles() { return cpu().amx_int8; }

/** Of Linux: a process has the tiles' 8 KB of state when it has asked for them. */
inline bool ask_for_tiles() {
  constexpr long GET_PERMISSION = 0x1022, ASK_PERMISSION = 0x1023, TILE_DATA = 18;
  uint64_t given = 0;
  if (syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) != 0) return false;
  return syscall(SYS_arch_prctl, GET_PERMISSION, &given) == 0 && (given >> TILE_DATA & 1) != 0;
}

inline void tile_configure(const TileConfig &config) { _tile_loadconfig(&config); }
inline void tile_release() { _tile_release(); }

template <int TILE>
inline void tile_zero() {
  _tile_zero(TILE);
}

template <int TILE>
inline void tile_load(const void *from, int64_t stride) {
  _tile_loadd(TILE, from, stride);
}

template <int TILE>
inline void tile_store(void *to, int64_t stride) {
  _tile_stored(TILE, to, stride);
}

template <int C, int A, int B>
inline void tile_multiply() {
  _tile_dpbssd(C, A, B);
}

}  // namespace
}  // namespace ss
#endif
