/**
 * Which sets of instructions there are, which of them this processor has, and the best of these.
 *
 * Chosen when the library is loaded; the order of the table is from worst to best.
 */
#include "linear.h"

namespace ss {
namespace {

const Variant *const VARIANTS[] = {
    &portable,
#if defined(__x86_64__)
    &avx2,
    &avx_vnni,
    &avx512,
#else
    &neon_dotprod,
#endif
};
constexpr int COUNT = sizeof VARIANTS / sizeof VARIANTS[0];

int best() {
  int index = COUNT - 1;
  while (index > 0 && !VARIANTS[index]->available()) index--;
  return index;
}

int chosen = -1;

}  // namespace

const Variant &variant() {
  if (chosen < 0) chosen = best();
  return *VARIANTS[chosen];
}

}  // namespace ss

int32_t ss_abi_version(void) { return SS_ABI_VERSION; }

const char *ss_variant_name(int32_t index) {
  return index < 0 || index >= ss::COUNT ? nullptr : ss::VARIANTS[index]->name;
}

int32_t ss_variant_available(int32_t index) {
  return index >= 0 && index < ss::COUNT && ss::VARIANTS[index]->available();
}

int32_t ss_variant(void) {
  ss::variant();
  return ss::chosen;
}

int32_t ss_use_variant(int32_t index) {
  if (!ss_variant_available(index)) return SS_NO_VARIANT;
  ss::chosen = index;
  return SS_OK;
}
