/**
 * The part of ONNX Runtime's C API that a library of operators needs, declared here: no header of theirs at build time.
 *
 * The function table is append-only, so a slot has its number for good; API version 17 is the first with all of them.
 *
 * Source  onnxruntime_c_api.h; the numbers of slots are those of shard-worker/ort/ort-api.ts and are run by its tests
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace ort {

constexpr uint32_t API_VERSION = 17;

struct Status;
struct Value;
struct TypeInfo;
struct KernelInfo;
struct KernelContext;
struct SessionOptions;
struct Domain;

struct Api {
  const void *slot[275];
};

struct ApiBase {
  const Api *(*get_api)(uint32_t version);
  const char *(*get_version)();
};

enum Slot {
  CREATE_STATUS = 0,
  CREATE_DOMAIN = 26,
  DOMAIN_ADD = 27,
  ADD_DOMAIN = 28,
  TENSOR_DATA = 51,
  TENSOR_TYPE = 60,
  DIMENSIONS_COUNT = 61,
  DIMENSIONS = 62,
  ELEMENT_COUNT = 64,
  TENSOR_INFO = 65,
  ATTRIBUTE_INT64 = 86,
  INPUT_COUNT = 88,
  INPUT = 90,
  OUTPUT = 91,
  RELEASE_STATUS = 93,
  RELEASE_TENSOR_INFO = 99,
  PARALLEL_FOR = 274,
};

constexpr int FLOAT = 1, UINT8 = 2;
constexpr int REQUIRED = 0, OPTIONAL = 1;
constexpr int FAIL = 1, INVALID_ARGUMENT = 2;

/** OrtCustomOp up to API version 17. */
struct Op {
  uint32_t version;
  void *(*create)(const Op *, const Api *, const KernelInfo *);
  const char *(*name)(const Op *);
  const char *(*provider)(const Op *);
  int (*input_type)(const Op *, size_t);
  size_t (*input_count)(const Op *);
  int (*output_type)(const Op *, size_t);
  size_t (*output_count)(const Op *);
  void (*compute)(void *, KernelContext *);
  void (*destroy)(void *);
  int (*input_kind)(const Op *, size_t);
  int (*output_kind)(const Op *, size_t);
  int (*input_memory)(const Op *, size_t);
  int (*variadic_input_min)(const Op *);
  int (*variadic_input_same)(const Op *);
  int (*variadic_output_min)(const Op *);
  int (*variadic_output_same)(const Op *);
  Status *(*create2)(const Op *, const Api *, const KernelInfo *, void **);
  Status *(*compute2)(void *, KernelContext *);
  Status *(*infer_shape)(const Op *, void *);
  int (*start_version)(const Op *);
  int (*end_version)(const Op *);
};

}  // namespace ort
