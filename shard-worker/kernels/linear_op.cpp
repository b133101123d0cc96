/**
 * The operator `shardserve:Linear` of ONNX Runtime, and `RegisterCustomOps`, which the library is loaded by.
 *
 * In      x float32 [.., inputs], weight uint8 [bytes of the panels], optional bias float32 [outputs];
 *         attributes bits, inputs, outputs, and by the format block, zero, bfloat, wide, pieces (kernels.h says what each means);
 *         groups: so many linears beside each other, each of its own inputs: x is [.., groups · inputs], the weight the panels of one
 *         after those of the other, the result [.., groups · outputs]. Whole panels of outputs, no bias
 * Out     float32 [.., outputs]
 * Errors  a node whose attributes or sizes do not fit fails when the session is made or at its run, with the numbers
 */
#include <stdio.h>
#include <stdlib.h>

#include "linear.h"
#include "onnxruntime.h"

namespace ss {
namespace {

const ort::Api *api = nullptr;
int threads = 1;

template <typename Result = ort::Status *, typename... Args>
Result call(ort::Slot slot, Args... args) {
  return ((Result(*)(Args...))api->slot[slot])(args...);
}

constexpr int MAX_DIMENSIONS = 8;

struct Tensor {
  const void *data = nullptr;
  int64_t dimensions[MAX_DIMENSIONS];
  size_t rank = 0, elements = 0;
};

ort::Status *refuse(const char *text, int64_t a, int64_t b) {
  char message[200];
  snprintf(message, sizeof message, text, (long long)a, (long long)b);
  return call(ort::CREATE_STATUS, (int)ort::INVALID_ARGUMENT, (const char *)message);
}

ort::Status *input(ort::KernelContext *context, size_t index, Tensor &tensor) {
  const ort::Value *value = nullptr;
  ort::TypeInfo *info = nullptr;
  ort::Status *status = call(ort::INPUT, (const ort::KernelContext *)context, index, &value);
  if (status || !value) return status;
  if ((status = call(ort::TENSOR_DATA, (ort::Value *)value, (void **)&tensor.data))) return status;
  if ((status = call(ort::TENSOR_INFO, value, &info))) return status;
  status = call(ort::DIMENSIONS_COUNT, (const ort::TypeInfo *)info, &tensor.rank);
  if (!status && tensor.rank > MAX_DIMENSIONS) status = refuse("a tensor has %lld dimensions; the limit is %lld", (int64_t)tensor.rank, MAX_DIMENSIONS);
  if (!status) status = call(ort::DIMENSIONS, (const ort::TypeInfo *)info, (int64_t *)tensor.dimensions, tensor.rank);
  if (!status) status = call(ort::ELEMENT_COUNT, (const ort::TypeInfo *)info, &tensor.elements);
  call<void>(ort::RELEASE_TENSOR_INFO, info);
  return status;
}

int64_t attribute(const ort::KernelInfo *info, const char *name, int64_t otherwise) {
  int64_t value = otherwise;
  ort::Status *status = call(ort::ATTRIBUTE_INT64, info, name, &value);
  if (!status) return value;
  call<void>(ort::RELEASE_STATUS, status);
  return otherwise;
}

struct Node {
  Format format;
  int64_t groups;
};

ort::Status *create(const ort::Op *, const ort::Api *, const ort::KernelInfo *info, void **kernel) {
  Node *node = (Node *)malloc(sizeof(Node));
  if (!node) return refuse("no memory for a node of %lld bytes (%lld)", sizeof(Node), 0);
  Format *format = &node->format;
  *format = Format{attribute(info, "inputs", 0), attribute(info, "outputs", 0), (int32_t)attribute(info, "bits", 0),
                   (int32_t)attribute(info, "block", 0),
                   (attribute(info, "zero", 0) ? SS_ZERO : 0) | (attribute(info, "bfloat", 0) ? SS_BFLOAT : 0) | (attribute(info, "wide", 0) ? SS_ROWS16 : 0),
                   (int32_t)attribute(info, "pieces", 1)};
  if (!format->valid()) {
    ort::Status *status = refuse("Linear has no format of %lld bits in blocks of %lld, or inputs, outputs, pieces or flags do not fit", format->bits, format->block);
    free(node);
    return status;
  }
  node->groups = attribute(info, "groups", 1);
  if (node->groups < 1 || node->groups > SS_MAX_SIZE || (node->groups > 1 && format->outputs % PANEL != 0)) {
    ort::Status *status = refuse("Linear has no %lld groups of %lld outputs", node->groups, format->outputs);
    free(node);
    return status;
  }
  *kernel = node;
  return nullptr;
}

void destroy(void *kernel) { free(kernel); }

int32_t parallel_for(void *context, void (*part)(void *, size_t), size_t count, void *data) {
  // Fewer batches than pieces would not use all threads.
  ort::Status *status = call(ort::PARALLEL_FOR, (const ort::KernelContext *)context, part, count, count, data);
  if (!status) return SS_OK;
  call<void>(ort::RELEASE_STATUS, status);
  return SS_NO_MEMORY;
}

/** Linears beside each other, a share of them a part. */
struct Groups {
  const Variant *kernels;
  const Call *first;
  int64_t count, parts, weight_bytes;
  int32_t error;
};

void group_part(void *data, size_t index) {
  Groups &groups = *(Groups *)data;
  const Format &format = groups.first->format;
  const int64_t end = groups.count * ((int64_t)index + 1) / groups.parts;
  for (int64_t group = groups.count * (int64_t)index / groups.parts; group < end; group++) {
    Call call = *groups.first;
    call.x += group * format.inputs;
    call.y += group * format.outputs;
    call.weight += group * groups.weight_bytes;
    const int32_t error = linear(*groups.kernels, call, Parallel{nullptr, nullptr, 1});
    if (error != SS_OK) __atomic_store_n(&groups.error, error, __ATOMIC_RELAXED);
  }
}

int32_t grouped(const Call &call, int64_t count, int64_t weight_bytes, ort::KernelContext *context) {
  Groups groups{&variant(), &call, count, threads < count ? threads : count, weight_bytes, SS_OK};
  if (groups.parts == 1) group_part(&groups, 0);
  else {
    const int32_t error = parallel_for(context, group_part, (size_t)groups.parts, &groups);
    if (error != SS_OK) return error;
  }
  return groups.error;
}

ort::Status *compute(void *kernel, ort::KernelContext *context) {
  const auto &[format, groups] = *(const Node *)kernel;
  Tensor x, weight, bias;
  size_t inputs = 0;
  ort::Status *status = call(ort::INPUT_COUNT, (const ort::KernelContext *)context, &inputs);
  if (!status) status = input(context, 0, x);
  if (!status) status = input(context, 1, weight);
  if (!status && inputs > 2) status = input(context, 2, bias);
  if (status) return status;
  const int64_t columns = groups * format.inputs;
  if (x.rank < 1 || x.dimensions[x.rank - 1] != columns) {
    return refuse("Linear takes rows of %lld values, not of %lld", columns, x.rank ? x.dimensions[x.rank - 1] : 0);
  }
  const int64_t group_bytes = format.panels() * format.panel_bytes(), bytes = groups * group_bytes;
  if (bias.data && groups > 1) return refuse("Linear of %lld groups takes no bias (of %lld values)", groups, (int64_t)bias.elements);
  if ((int64_t)weight.elements != bytes) return refuse("Linear's panels have %lld bytes, not %lld", bytes, (int64_t)weight.elements);
  if (bias.data && (int64_t)bias.elements != format.outputs) {
    return refuse("Linear's bias has %lld values, not %lld", format.outputs, (int64_t)bias.elements);
  }
  const int64_t rows = (int64_t)x.elements / columns;
  x.dimensions[x.rank - 1] = groups * format.outputs;
  ort::Value *output = nullptr;
  float *y = nullptr;
  if ((status = call(ort::OUTPUT, context, (size_t)0, (const int64_t *)x.dimensions, x.rank, &output))) return status;
  if ((status = call(ort::TENSOR_DATA, output, (void **)&y))) return status;
  const Call work{format, (const float *)x.data, columns, (const uint8_t *)weight.data, (const float *)bias.data, y,
                  groups * format.outputs, rows, 0, format.panels()};
  const int32_t error = groups > 1 ? grouped(work, groups, group_bytes, context) : linear(variant(), work, Parallel{parallel_for, context, threads});
  return error == SS_OK ? nullptr : refuse("Linear failed with code %lld on %lld rows", error, rows);
}

const ort::Op LINEAR = {
    .version = ort::API_VERSION,
    .create = nullptr,
    .name = [](const ort::Op *) { return "Linear"; },
    .provider = [](const ort::Op *) -> const char * { return nullptr; },
    .input_type = [](const ort::Op *, size_t index) { return index == 1 ? ort::UINT8 : ort::FLOAT; },
    .input_count = [](const ort::Op *) -> size_t { return 3; },
    .output_type = [](const ort::Op *, size_t) { return ort::FLOAT; },
    .output_count = [](const ort::Op *) -> size_t { return 1; },
    .compute = nullptr,
    .destroy = destroy,
    .input_kind = [](const ort::Op *, size_t index) { return index == 2 ? ort::OPTIONAL : ort::REQUIRED; },
    .output_kind = [](const ort::Op *, size_t) { return ort::REQUIRED; },
    .input_memory = [](const ort::Op *, size_t) { return 0; },
    .variadic_input_min = [](const ort::Op *) { return 1; },
    .variadic_input_same = [](const ort::Op *) { return 1; },
    .variadic_output_min = [](const ort::Op *) { return 1; },
    .variadic_output_same = [](const ort::Op *) { return 1; },
    .create2 = create,
    .compute2 = compute,
    .infer_shape = nullptr,
    .start_version = [](const ort::Op *) { return 1; },
    .end_version = [](const ort::Op *) { return 0x7fffffff; },
};

ort::Domain *domain = nullptr;

}  // namespace
}  // namespace ss

void ss_set_threads(int32_t threads) { ss::threads = threads < 1 ? 1 : threads > 256 ? 256 : threads; }

SS_EXPORT ort::Status *RegisterCustomOps(ort::SessionOptions *options, const ort::ApiBase *base) {
  using namespace ss;
  api = base->get_api(ort::API_VERSION);
  if (!api) return nullptr;
  // One domain for all sessions of the process: it must outlive them.
  if (!domain) {
    ort::Domain *made = nullptr;
    ort::Status *status = call(ort::CREATE_DOMAIN, (const char *)"shardserve", &made);
    if (!status) status = call(ort::DOMAIN_ADD, made, &LINEAR);
    if (status) return status;
    domain = made;
  }
  return call(ort::ADD_DOMAIN, options, domain);
}
