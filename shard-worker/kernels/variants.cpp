/**
 * Which sets of instructions there are, which of them this machine runs, and the best of these.
 *
 * Chosen when a product is asked for first, or by ss_use_variant; the order of the table is from worst to best. A set that was never run on such a
 * processor has to prove itself (proof.cpp), once a process, and only where none was chosen that needs no proof.
 */
#include <sched.h>

#include "linear.h"

namespace ss {
namespace {

const Variant *const VARIANTS[] = {
    &portable,
#if defined(__x86_64__)
    &avx2,
    &avx_vnni,
    &avx512,
    &amx,
#else
    &neon_dotprod,
    &neon_i8mm,
#endif
};
constexpr int COUNT = sizeof VARIANTS / sizeof VARIANTS[0];

/** SsVariantState + 1; 0: not asked yet. */
int32_t states[COUNT];
int32_t chosen = -1;
bool busy = false;

/** One thread at a time. */
struct Alone {
  Alone() {
    while (__atomic_exchange_n(&busy, true, __ATOMIC_ACQUIRE)) sched_yield();
  }
  ~Alone() { __atomic_store_n(&busy, false, __ATOMIC_RELEASE); }
};

int32_t find_state(const Variant &variant) {
  if (!variant.available()) return SS_LACKING;
  if (variant.ask && !variant.ask()) return SS_NO_REGISTERS;
  return variant.known ? prove(variant, *variant.known) : SS_USABLE;
}

int32_t state_of(int index) {
  if (!states[index]) states[index] = find_state(*VARIANTS[index]) + 1;
  return states[index] - 1;
}

}  // namespace

const Variant &variant() {
  int32_t index = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
  if (index >= 0) return *VARIANTS[index];
  const Alone alone;
  index = chosen;
  if (index < 0) {
    index = COUNT - 1;
    while (index > 0 && state_of(index) != SS_USABLE) index--;
    __atomic_store_n(&chosen, index, __ATOMIC_RELEASE);
  }
  return *VARIANTS[index];
}

}  // namespace ss

int32_t ss_abi_version(void) { return SS_ABI_VERSION; }

const char *ss_variant_name(int32_t index) {
  return index < 0 || index >= ss::COUNT ? nullptr : ss::VARIANTS[index]->name;
}

int32_t ss_variant_state(int32_t index) {
  if (index < 0 || index >= ss::COUNT) return SS_LACKING;
  const ss::Alone alone;
  return ss::state_of(index);
}

int32_t ss_variant(void) {
  ss::variant();
  return __atomic_load_n(&ss::chosen, __ATOMIC_ACQUIRE);
}

int32_t ss_use_variant(int32_t index) {
  if (ss_variant_state(index) != SS_USABLE) return SS_NO_VARIANT;
  __atomic_store_n(&ss::chosen, index, __ATOMIC_RELEASE);
  return SS_OK;
}
