/* A stub of CUDA's runtime, of NCCL and of NVML, in one library under their names: device memory is malloc's, a stream is a list of what is to be done,
   and a sum between processes goes through a file that they map. It checks what it is called with, and hangs where it is told to:

   STUB_FOLDER  where the group's file lies
   STUB_HANG    init: ncclCommInitRank does not return; a number: this rank's sums from that one on never run
   STUB_GPUS    how many NVML has; the last is cut in two where STUB_CUT is set

   Sums are made from the last rank to the first. A stream runs when somebody looks at it, as far as the peers are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_RANKS = 8, SLOT_BYTES = 1 << 20, ID_BYTES = 128, GPUS = 4, MAX_ALLOCATIONS = 256 };
enum { CUDA_OK = 0, CUDA_INVALID_VALUE = 1, CUDA_INVALID_DEVICE = 101, CUDA_NOT_READY = 600 };
enum { NCCL_OK, NCCL_CUDA, NCCL_SYSTEM, NCCL_INTERNAL, NCCL_INVALID_ARGUMENT, NCCL_INVALID_USAGE, NCCL_REMOTE };

static __thread int current_gpu = -1;
static char last_error[256] = "";

static int told(const char *name, const char *what) {
  const char *value = getenv(name);
  return value != NULL && strcmp(value, what) == 0;
}

/* Memory of the device. */
static struct { char *start; size_t bytes; } allocations[MAX_ALLOCATIONS];

static int is_device(const void *from, size_t bytes) {
  for (int at = 0; at < MAX_ALLOCATIONS; at++) {
    const char *start = allocations[at].start;
    if (start != NULL && (const char *)from >= start && (const char *)from + bytes <= start + allocations[at].bytes) return 1;
  }
  return 0;
}

int cudaMalloc(void **out, size_t bytes) {
  for (int at = 0; at < MAX_ALLOCATIONS; at++) {
    if (allocations[at].start != NULL) continue;
    allocations[at].start = calloc(1, bytes);
    allocations[at].bytes = bytes;
    *out = allocations[at].start;
    return CUDA_OK;
  }
  return 2;
}

int cudaFree(void *address) {
  for (int at = 0; at < MAX_ALLOCATIONS; at++) {
    if (allocations[at].start != address) continue;
    free(address);
    allocations[at].start = NULL;
    return CUDA_OK;
  }
  return CUDA_INVALID_VALUE;
}

/* What ranks share. */
struct Board {
  atomic_int joined;
  atomic_int gpu[MAX_RANKS];
  atomic_long posted[MAX_RANKS];
  atomic_long taken[MAX_RANKS];
};

struct Comm {
  uint32_t magic;
  int rank, ranks;
  long sums;
  struct Board *board;
  char *slots;
  int aborted;
};
enum { COMM_MAGIC = 0x4e43434c };

/* The stream. */
struct Task {
  struct Comm *comm; /* NULL: a copy */
  float *to;
  const float *from;
  void *copy;
  size_t bytes;
  struct Task *next;
};
struct Stream {
  uint32_t magic;
  struct Task *first, *last;
};
enum { STREAM_MAGIC = 0x53545245 };
static struct Stream the_stream;

static void push(struct Stream *stream, struct Task task) {
  struct Task *made = malloc(sizeof *made);
  *made = task;
  made->next = NULL;
  if (stream->first == NULL) stream->first = made;
  else stream->last->next = made;
  stream->last = made;
}

static float *slot(struct Comm *comm, int rank) { return (float *)(comm->slots + (size_t)rank * SLOT_BYTES); }

/* 1: it has run. */
static int run_sum(struct Task *task) {
  struct Comm *comm = task->comm;
  if (comm->aborted) return 1;
  struct Board *board = comm->board;
  long number = comm->sums;
  const char *hang = getenv("STUB_HANG");
  if (hang != NULL && atoi(hang) > 0 && number >= atoi(hang)) return 0;
  if (atomic_load(&board->posted[comm->rank]) <= number) {
    for (int rank = 0; rank < comm->ranks; rank++)
      if (atomic_load(&board->taken[rank]) < number) return 0;
    memcpy(slot(comm, comm->rank), task->from, task->bytes);
    atomic_store(&board->posted[comm->rank], number + 1);
  }
  for (int rank = 0; rank < comm->ranks; rank++)
    if (atomic_load(&board->posted[rank]) <= number) return 0;
  for (size_t at = 0; at < task->bytes / sizeof(float); at++) {
    float sum = slot(comm, comm->ranks - 1)[at];
    for (int rank = comm->ranks - 2; rank >= 0; rank--) sum += slot(comm, rank)[at];
    task->to[at] = sum;
  }
  comm->sums = number + 1;
  atomic_store(&board->taken[comm->rank], number + 1);
  return 1;
}

/* 1: nothing is left. */
static int run(struct Stream *stream) {
  while (stream->first != NULL) {
    struct Task *task = stream->first;
    if (task->comm == NULL) {
      memcpy(task->to, task->copy, task->bytes);
      free(task->copy);
    } else if (!run_sum(task)) return 0;
    stream->first = task->next;
    free(task);
  }
  return 1;
}

int cudaGetDeviceCount(int *out) { *out = GPUS; return CUDA_OK; }

int cudaSetDevice(int gpu) {
  if (gpu < 0 || gpu >= GPUS) return CUDA_INVALID_DEVICE;
  current_gpu = gpu;
  return CUDA_OK;
}

int cudaStreamCreateWithFlags(struct Stream **out, unsigned flags) {
  if (flags != 0) return CUDA_INVALID_VALUE;
  the_stream.magic = STREAM_MAGIC;
  *out = &the_stream;
  return CUDA_OK;
}

int cudaStreamDestroy(struct Stream *stream) { return stream == &the_stream ? CUDA_OK : CUDA_INVALID_VALUE; }

int cudaStreamQuery(struct Stream *stream) {
  if (stream != &the_stream) return CUDA_INVALID_VALUE;
  return run(stream) ? CUDA_OK : CUDA_NOT_READY;
}

int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
  if (kind != 2 || !is_device(from, bytes)) return CUDA_INVALID_VALUE;
  while (!run(&the_stream)) usleep(50);
  memcpy(to, from, bytes);
  return CUDA_OK;
}

int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, struct Stream *stream) {
  if (kind != 1 || !is_device(to, bytes) || stream != &the_stream) return CUDA_INVALID_VALUE;
  struct Task task = {.to = to, .copy = malloc(bytes), .bytes = bytes};
  memcpy(task.copy, from, bytes);
  push(stream, task);
  return CUDA_OK;
}

/* CUDA begins with the fastest, here the last on the bus, unless it is told to number as the bus, and NVML, do. */
static int on_bus(int gpu) { return told("CUDA_DEVICE_ORDER", "PCI_BUS_ID") ? gpu : GPUS - 1 - gpu; }

/* As NVML tells it of the same GPU. */
int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  *total = 80ull << 30;
  *free_bytes = *total - ((size_t)(on_bus(current_gpu) + 1) << 30);
  return CUDA_OK;
}

const char *cudaGetErrorString(int code) { return code == CUDA_INVALID_DEVICE ? "invalid device ordinal" : "stub error"; }

typedef struct { char internal[ID_BYTES]; } Id;

static char filler(int at) { return (char)(at * 7 + 3); }

int ncclGetVersion(int *out) { *out = 22907; return NCCL_OK; }

int ncclGetUniqueId(Id *id) {
  for (int at = 0; at < ID_BYTES; at++) id->internal[at] = filler(at);
  snprintf(id->internal, 32, "group-%d", (int)getpid());
  return NCCL_OK;
}

const char *ncclGetErrorString(int code) {
  static const char *const words[] = {"no error", "unhandled cuda error", "unhandled system error", "internal error",
                                      "invalid argument", "invalid usage", "remote process exited or there was a network error"};
  return code >= 0 && code <= NCCL_REMOTE ? words[code] : "unknown result code";
}

const char *ncclGetLastError(struct Comm *comm) { (void)comm; return last_error; }

static int fail(int code, const char *words) {
  snprintf(last_error, sizeof last_error, "%s\n", words);
  return code;
}

/* The id comes by value: its last byte tells whether all of it did. */
int ncclCommInitRank(struct Comm **out, int ranks, Id id, int rank) {
  for (int at = 32; at < ID_BYTES; at++)
    if (id.internal[at] != filler(at)) return fail(NCCL_INVALID_ARGUMENT, "the id is not whole");
  if (ranks < 1 || ranks > MAX_RANKS || rank < 0 || rank >= ranks) return fail(NCCL_INVALID_ARGUMENT, "no such rank");
  if (current_gpu < 0) return fail(NCCL_INVALID_USAGE, "this thread has no current GPU");
  while (told("STUB_HANG", "init")) pause();
  char path[512];
  snprintf(path, sizeof path, "%s/%s", getenv("STUB_FOLDER"), id.internal);
  int fd = open(path, O_RDWR | O_CREAT, 0600);
  size_t bytes = 4096 + (size_t)MAX_RANKS * SLOT_BYTES;
  if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) return fail(NCCL_SYSTEM, path);
  char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return fail(NCCL_SYSTEM, "no memory");
  struct Comm *comm = calloc(1, sizeof *comm);
  *comm = (struct Comm){COMM_MAGIC, rank, ranks, 0, (struct Board *)memory, memory + 4096, 0};
  atomic_store(&comm->board->gpu[rank], current_gpu);
  atomic_fetch_add(&comm->board->joined, 1);
  while (atomic_load(&comm->board->joined) < ranks) usleep(200);
  for (int one = 0; one < ranks; one++)
    for (int other = 0; other < one; other++)
      if (atomic_load(&comm->board->gpu[one]) == atomic_load(&comm->board->gpu[other]))
        return fail(NCCL_INVALID_USAGE, "Duplicate GPU detected");
  *out = comm;
  return NCCL_OK;
}

int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, struct Comm *comm, struct Stream *stream) {
  if (comm == NULL || comm->magic != COMM_MAGIC || comm->aborted) return fail(NCCL_INVALID_ARGUMENT, "no communicator");
  if (stream != &the_stream || type != 7 || op != 0) return fail(NCCL_INVALID_ARGUMENT, "stream, type or operation");
  if (!is_device(from, count * 4) || !is_device(to, count * 4)) return fail(NCCL_INVALID_ARGUMENT, "no memory of the device");
  if (count == 0 || count * 4 > SLOT_BYTES) return fail(NCCL_INVALID_ARGUMENT, "count");
  push(stream, (struct Task){.comm = comm, .to = to, .from = from, .bytes = count * 4});
  return NCCL_OK;
}

int ncclCommGetAsyncError(struct Comm *comm, int *out) {
  if (comm == NULL || comm->magic != COMM_MAGIC) return NCCL_INVALID_ARGUMENT;
  *out = NCCL_OK;
  return NCCL_OK;
}

int ncclCommAbort(struct Comm *comm) {
  if (comm == NULL || comm->magic != COMM_MAGIC) return NCCL_INVALID_ARGUMENT;
  comm->aborted = 1;
  return NCCL_OK;
}

/* NVML: handles are 1, 2, … for GPUs, 100 and 101 for parts. */
typedef uintptr_t Device;
enum { NOT_SUPPORTED = 3, NOT_FOUND = 6 };

static Device gpus(void) { return getenv("STUB_GPUS") == NULL ? 0 : (Device)atoi(getenv("STUB_GPUS")); }

int nvmlInit_v2(void) { return 0; }

int nvmlDeviceGetCount_v2(unsigned *out) { *out = (unsigned)gpus(); return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *out) { *out = index + 1; return index < gpus() ? 0 : NOT_FOUND; }

int nvmlDeviceGetName(Device device, char *text, unsigned bytes) {
  snprintf(text, bytes, device >= 100 ? "Stub GPU MIG 1g.10gb" : "Stub GPU");
  return 0;
}

int nvmlDeviceGetUUID(Device device, char *text, unsigned bytes) {
  snprintf(text, bytes, "%s-%d", device >= 100 ? "MIG" : "GPU", (int)device);
  return 0;
}

int nvmlDeviceGetMemoryInfo(Device device, uint64_t *out) {
  out[0] = (device >= 100 ? 10ull : 80ull) << 30;
  out[2] = (uint64_t)device << 30;
  out[1] = out[0] - (device >= 100 ? 0 : out[2]);
  return 0;
}

int nvmlDeviceGetUtilizationRates(Device device, unsigned *out) {
  out[0] = 25;
  out[1] = 5;
  return device >= 100 ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
  *current = *pending = getenv("STUB_CUT") != NULL && device == gpus();
  return 0;
}

int nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *out) { (void)device; *out = 7; return 0; }

int nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *out) {
  (void)device;
  *out = 100 + index;
  return index < 2 ? 0 : NOT_FOUND;
}
