/** Passes over a row of logits: any processor's, and which set this one takes. */
#include "scan_lanes.h"
#if defined(__x86_64__)
#include "cpu.h"
#endif

const ss::Scans ss::scans_portable = {scan_blocks, scan_mass, scan_reach, scan_noise};

namespace {

const ss::Scans *of(int32_t variant) {
#if defined(__x86_64__)
  const ss::Cpu &cpu = ss::cpu();
  if (cpu.avx512 && variant != SS_ATTEND_PORTABLE && variant != SS_ATTEND_AVX2) return &ss::scans_avx512;
  if (cpu.avx2 && variant != SS_ATTEND_PORTABLE) return &ss::scans_avx2;
#endif
  (void)variant;
  return &ss::scans_portable;
}

const ss::Scans *chosen = nullptr;

const ss::Scans &scans() {
  if (!chosen) chosen = of(SS_ATTEND_BEST);
  return *chosen;
}

}  // namespace

void ss_use_scans(int32_t variant) { chosen = of(variant); }

int32_t ss_scan_blocks(const float *logits, int64_t count, float *block_max) { return scans().blocks(logits, count, block_max); }

double ss_scan_mass(const float *logits, int64_t count, const float *block_max, double max, double temperature) {
  return scans().mass(logits, count, block_max, max, temperature);
}

int64_t ss_scan_reach(const float *logits, int64_t count, const float *block_max, float least, int32_t *positions) {
  return scans().reach(logits, count, block_max, least, positions);
}

int64_t ss_scan_noise(uint32_t key, uint32_t second, int64_t base, int64_t first, int64_t count, const double *limits, int32_t *positions) {
  return scans().noise(key, second, base, first, count, limits, positions);
}
