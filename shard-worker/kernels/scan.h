/** The passes over a row of logits that a choice makes: one set of functions a set of instructions. */
#pragma once
#include "kernels.h"

namespace ss {

/** Ids of a block: slice-scan.ts. */
constexpr int64_t SCAN_BLOCK = 128;

struct Scans {
  decltype(ss_scan_blocks) *blocks;
  decltype(ss_scan_mass) *mass;
  decltype(ss_scan_reach) *reach;
  decltype(ss_scan_noise) *noise;
};

extern const Scans scans_portable;
#if defined(__x86_64__)
extern const Scans scans_avx2, scans_avx512;
#endif

}  // namespace ss
