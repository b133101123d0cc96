/**
 * Attention of one layer for all sequences of a step: new keys and values go into the cache, then every query row attends.
 *
 * In      ss_attend's (kernels.h)
 * Out     the output's rows, and the cache's new ones
 * Errors  SS_BAD_SIZE: a head, a number of heads, a type or a thing to do that there is not; nothing was written then
 */
#include "attention.h"
#if defined(__x86_64__)
#include "cpu.h"
#endif

namespace ss {
namespace {

const AttendVariant *variant_of(int32_t index) {
#if defined(__x86_64__)
  const bool avx2 = cpu().avx2, avx512 = cpu().avx512;
#else
  const bool avx2 = false, avx512 = false;
#endif
  switch (index) {
    case SS_ATTEND_BEST:
#if defined(__x86_64__)
      return avx512 ? &attend_avx512 : avx2 ? &attend_avx2 : &attend_portable;
    case SS_ATTEND_AVX2: return avx2 ? &attend_avx2 : nullptr;
    case SS_ATTEND_AVX512: return avx512 ? &attend_avx512 : nullptr;
#endif
    case SS_ATTEND_PORTABLE: return &attend_portable;
    default: return nullptr;
  }
  (void)avx2, (void)avx512;
}

void write_rows(const AttendVariant &variant, const SsAttention &shape, const SsAttendSpan &span, const float *source,
                char *planes) {
  const int64_t dim = shape.dim, columns = dim * shape.kv_heads;
  const int64_t bytes = row_bytes(shape.type, dim);
  for (int32_t head = 0; head < shape.kv_heads; head++) {
    char *plane = planes + head * (int64_t)shape.plane_bytes + (int64_t)span.position * bytes;
    for (int64_t token = 0; token < (int64_t)span.count; token++) {
      const float *from = source + ((int64_t)span.offset + token) * columns + head * dim;
      char *to = plane + token * bytes;
      if (shape.type == SS_KV_HALF) variant.store_halves(from, (uint16_t *)to, dim);
      else if (shape.type == SS_KV_INT8) variant.store_bytes(from, (int8_t *)to, dim);
      else __builtin_memcpy(to, from, dim * 4);
    }
  }
}

}  // namespace
}  // namespace ss

int64_t ss_attend_scratch(int32_t dim) { return dim < 1 || dim > SS_MAX_HEAD ? 0 : ss::attend_scratch(dim) * 4; }

int32_t ss_attend(const SsAttention *shape, const SsAttendSpan *spans, int32_t count, int32_t layer, int32_t window,
                  int32_t work, int32_t part, int32_t parts, float *scratch) {
  using namespace ss;
  const AttendVariant *variant = variant_of(shape->variant);
  if (variant == nullptr) return SS_NO_VARIANT;
  if (shape->dim < 1 || shape->dim > SS_MAX_HEAD || shape->kv_heads < 1 || shape->heads % shape->kv_heads != 0 ||
      shape->type < SS_KV_FLOAT || shape->type > SS_KV_INT8 || shape->sink_column >= shape->dim || shape->position_column >= shape->dim || part < 0 || part >= parts)
    return SS_BAD_SIZE;
  const int64_t dim = shape->dim, heads = shape->heads / shape->kv_heads;
  const int64_t columns = dim * shape->heads, key_columns = dim * shape->kv_heads;
  const int64_t layer_bytes = 2 * (int64_t)shape->plane_bytes * shape->kv_heads;
  const int64_t value_bytes = (int64_t)shape->plane_bytes * shape->kv_heads;
  const float *query = (const float *)(uintptr_t)shape->query;
  const float *key = (const float *)(uintptr_t)shape->key;
  const float *value = (const float *)(uintptr_t)shape->value;
  float *output = (float *)(uintptr_t)shape->output;
  const bool in_step = shape->bidirectional != 0;
  if ((work & SS_ATTEND_WRITE) && !in_step)
    for (int32_t i = 0; i < count; i++) {
      char *planes = (char *)(uintptr_t)spans[i].rows + layer * layer_bytes;
      write_rows(*variant, *shape, spans[i], key, planes);
      write_rows(*variant, *shape, spans[i], value, planes + value_bytes);
    }
  if (!(work & SS_ATTEND_READ)) return SS_OK;
  int64_t unit = 0;
  bool is_announced = false;
  for (int32_t i = 0; i < count; i++) {
    const SsAttendSpan &span = spans[i];
    const int64_t offset = (int64_t)span.offset, tokens = (int64_t)span.count;
    for (int32_t head = 0; head < shape->kv_heads; head++) {
      AttendJob job;
      job.query = query + offset * columns + head * heads * dim;
      job.output = output + offset * columns + head * heads * dim;
      job.token_stride = columns;
      if (in_step) {
        job.keys = (const char *)(key + offset * key_columns + head * dim);
        job.values = (const char *)(value + offset * key_columns + head * dim);
        job.key_stride = key_columns;
        job.capacity = tokens;
      } else {
        const char *planes = (const char *)(uintptr_t)span.rows + layer * layer_bytes;
        job.keys = planes + head * (int64_t)shape->plane_bytes;
        job.values = job.keys + value_bytes;
        job.key_stride = shape->type == SS_KV_INT8 ? row_bytes(SS_KV_INT8, dim) : dim;
        job.capacity = (int64_t)shape->capacity;
      }
      job.position = (int64_t)span.position;
      job.window = window;
      job.bidirectional = in_step ? tokens : 0;
      job.heads = (int32_t)heads;
      job.dim = shape->dim;
      job.type = in_step ? (int32_t)SS_KV_FLOAT : shape->type;
      job.sink_column = shape->sink_column;
      job.position_column = shape->position_column;
      job.soft_cap = shape->soft_cap;
      const int64_t rows = heads * tokens;
      // Who comes next is known where one thread does all, one after the other.
      const bool is_single = rows <= ROWS_TOGETHER && parts == 1 && !in_step;
      job.is_announced = is_announced;
      job.next_keys = job.next_values = nullptr;
      job.next_bytes = 0;
      const bool is_last_head = head + 1 == shape->kv_heads;
      if (is_single && (!is_last_head || i + 1 < count)) {
        const SsAttendSpan &next = spans[is_last_head ? i + 1 : i];
        const int64_t position = (int64_t)next.position, row_size = row_bytes(shape->type, dim);
        const int64_t seen = position + (int64_t)next.count;
        int64_t from = window && position + 1 > window ? position + 1 - window : 0;
        from -= from % KEYS_TOGETHER;
        const char *planes = (const char *)(uintptr_t)next.rows + layer * layer_bytes;
        job.next_keys = planes + (is_last_head ? 0 : head + 1) * (int64_t)shape->plane_bytes + from * row_size;
        job.next_values = job.next_keys + value_bytes;
        job.next_bytes = (seen - from < KEYS_TOGETHER ? seen - from : KEYS_TOGETHER) * row_size;
      }
      is_announced = job.next_keys != nullptr;
      for (int64_t row = 0; row < rows; row += ROWS_TOGETHER) {
        if (unit++ % parts != part) continue;
        variant->rows(job, row, rows - row < ROWS_TOGETHER ? rows : row + ROWS_TOGETHER, scratch);
      }
    }
  }
  return SS_OK;
}
