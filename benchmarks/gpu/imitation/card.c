/* A GPU that computes nothing, so that code for one can be run where there is none.
 *
 * Preloaded before PyTorch for CUDA, this stands for CUDA's runtime, driver and cuBLAS: memory is
 * reserved from the system and never touched, kernels are accepted and not run, events read the
 * clock. What is above it is the real thing: PyTorch's dispatcher and autograd, its caching
 * allocator with its counts, Triton's compiler down to machine code for sm_90, every check of
 * arguments. So it shows that a program runs to its end, what memory it needs, and where it runs
 * out of it; it knows nothing of values or speed. What the host reads back is one, of the type that
 * its size suggests.
 *
 * IMITATED_BYTES is the card's memory, IMITATED_NAME what it calls itself. Built by rehearse.py,
 * which adds a function that returns 0 for every name that PyTorch wants and this file lacks.
 */
#define _GNU_SOURCE
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define CONTEXT_BYTES (520ull << 20) /* what a context takes of an H100 */
#define COPIED_BYTES (1ull << 20)    /* larger areas of the card are not worth copying */
#define SEGMENT (2ull << 20)
#define MOST_AREAS (1 << 16)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char *at; size_t size; int on_card; } areas[MOST_AREAS];
static int known_areas;
static size_t used_bytes;

static size_t card_bytes(void) {
  const char *told = getenv("IMITATED_BYTES");
  return told ? strtoull(told, 0, 10) : 84987740160ull; /* 79.15 GiB */
}

static const char *card_name(void) {
  const char *told = getenv("IMITATED_NAME");
  return told ? told : "Imitated NVIDIA H100 80GB";
}

static char *reserve(size_t size) {
  void *at = mmap(0, size ? size : 1, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? 0 : at;
}

static void keep(char *at, size_t size, int on_card) { /* with the lock held */
  int place = 0;
  while (place < known_areas && areas[place].at) place++;
  if (place == MOST_AREAS) abort();
  if (place == known_areas) known_areas++;
  areas[place].at = at;
  areas[place].size = size;
  areas[place].on_card = on_card;
}

static cudaError_t allocate(void **p, size_t size, int on_card) {
  pthread_mutex_lock(&lock);
  *p = 0;
  if (!on_card || used_bytes + size + CONTEXT_BYTES <= card_bytes()) *p = reserve(size);
  if (*p) {
    keep(*p, size, on_card);
    if (on_card) used_bytes += size;
  }
  pthread_mutex_unlock(&lock);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

static cudaError_t give_back(void *p) {
  pthread_mutex_lock(&lock);
  for (int i = 0; p && i < known_areas; i++) {
    if (areas[i].at != p) continue;
    munmap(p, areas[i].size ? areas[i].size : 1);
    if (areas[i].on_card) used_bytes -= areas[i].size;
    areas[i].at = 0;
  }
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}

enum { NOWHERE, ON_HOST, ON_CARD };

static int where(const void *p) {
  int found = NOWHERE;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < known_areas && !found; i++)
    if (areas[i].at && (char *)p >= areas[i].at && (char *)p < areas[i].at + areas[i].size)
      found = areas[i].on_card ? ON_CARD : ON_HOST;
  pthread_mutex_unlock(&lock);
  return found;
}

/* ---- the device */

static int attribute(int which) { /* CU_DEVICE_ATTRIBUTE_..., an H100's */
  switch (which) {
  case 1: case 2: case 3: return 1024;        /* threads of a block */
  case 4: return 64;
  case 5: return 2147483647;                  /* blocks of a grid */
  case 6: case 7: return 65535;
  case 8: return 49152;                       /* shared memory of a block */
  case 9: case 12: case 82: return 65536;     /* constant memory, registers */
  case 10: return 32;                         /* warp */
  case 13: return 1980000;                    /* clock */
  case 16: return 132;                        /* multiprocessors */
  case 36: return 2619000;                    /* memory clock */
  case 37: return 5120;                       /* bus */
  case 38: return 52428800;                   /* L2 */
  case 39: return 2048;                       /* threads of a multiprocessor */
  case 75: return 9;                          /* compute capability 9.0 */
  case 76: return 0;
  case 81: return 233472;                     /* shared memory of a multiprocessor */
  case 97: return 232448;                     /* of a block that asks for more */
  case 106: return 32;                        /* blocks of a multiprocessor */
  default: return 1;
  }
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
  memset(p, 0, sizeof *p);
  snprintf(p->name, sizeof p->name, "%s", card_name());
  p->totalGlobalMem = card_bytes();
  p->multiProcessorCount = attribute(16);
  p->major = attribute(75);
  p->minor = attribute(76);
  p->warpSize = attribute(10);
  p->maxThreadsPerBlock = attribute(1);
  p->maxThreadsPerMultiProcessor = attribute(39);
  p->regsPerBlock = p->regsPerMultiprocessor = attribute(82);
  p->sharedMemPerBlock = attribute(8);
  p->sharedMemPerMultiprocessor = attribute(81);
  p->sharedMemPerBlockOptin = attribute(97);
  p->l2CacheSize = attribute(38);
  p->memoryBusWidth = attribute(37);
  p->maxBlocksPerMultiProcessor = attribute(106);
  for (int i = 0; i < 3; i++) {
    p->maxThreadsDim[i] = attribute(2 + i);
    p->maxGridSize[i] = attribute(5 + i);
  }
  p->textureAlignment = 512;
  p->unifiedAddressing = p->managedMemory = p->concurrentManagedAccess = p->cooperativeLaunch = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr a, int d) { *v = attribute(a); return 0; }
cudaError_t cudaGetDeviceCount(int *n) { *n = 1; return 0; }
cudaError_t cudaGetDevice(int *d) { *d = 0; return 0; }
cudaError_t cudaDriverGetVersion(int *v) { *v = CUDA_VERSION; return 0; }
cudaError_t cudaRuntimeGetVersion(int *v) { *v = CUDA_VERSION; return 0; }
cudaError_t cudaDeviceCanAccessPeer(int *can, int a, int b) { *can = 0; return 0; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *low, int *high) { *low = 0; *high = -5; return 0; }
cudaError_t cudaDeviceGetPCIBusId(char *s, int n, int d) { snprintf(s, n, "0000:00:00.0"); return 0; }
const char *cudaGetErrorName(cudaError_t e) { return e == 2 ? "cudaErrorMemoryAllocation" : "cudaError"; }
const char *cudaGetErrorString(cudaError_t e) { return e == 2 ? "out of memory" : "an imitated card's"; }

/* ---- memory */

cudaError_t cudaMalloc(void **p, size_t n) { return allocate(p, n, 1); }
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned f) { return allocate(p, n, 0); }
cudaError_t cudaMallocManaged(void **p, size_t n, unsigned f) { return allocate(p, n, 0); }
cudaError_t cudaFree(void *p) { return give_back(p); }
cudaError_t cudaFreeHost(void *p) { return give_back(p); }
cudaError_t cudaMemGetInfo(size_t *left, size_t *all) {
  *all = card_bytes();
  *left = *all - used_bytes - CONTEXT_BYTES;
  return 0;
}
cudaError_t cudaMemset(void *p, int value, size_t n) {
  if (n <= COPIED_BYTES) memset(p, value, n);
  return 0;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t s) { return cudaMemset(p, value, n); }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s) {
  int read_back = where(from) == ON_CARD && where(to) != ON_CARD;
  if (n <= COPIED_BYTES || where(from) != ON_CARD) memmove(to, from, n);
  if (read_back && n == 1) *(uint8_t *)to = 1;
  if (read_back && n == 4) *(float *)to = 1;
  if (read_back && n == 8) *(int64_t *)to = 1;
  return 0;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, n, kind, 0);
}
cudaError_t cudaGetSymbolAddress(void **p, const void *symbol) {
  static char room[1 << 16];
  *p = room;
  return 0;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
  int place = where(p);
  memset(a, 0, sizeof *a);
  a->type = place == ON_CARD ? cudaMemoryTypeDevice
            : place == ON_HOST ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  a->devicePointer = place ? (void *)p : 0;
  a->hostPointer = place == ON_HOST ? (void *)p : 0;
  return 0;
}

/* ---- streams and events */

cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = calloc(1, 64); return 0; }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned f, int p) { return cudaStreamCreate(s); }
cudaError_t cudaStreamGetPriority(cudaStream_t s, int *p) { *p = 0; return 0; }
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *c) { *c = 0; return 0; }
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, enum cudaStreamCaptureStatus *c, unsigned long long *i,
                                     cudaGraph_t *g, const cudaGraphNode_t **d,
                                     const cudaGraphEdgeData **e, size_t *n) {
  *c = 0;
  return 0;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) { *e = calloc(1, 64); return 0; }
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) { free(e); return 0; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  clock_gettime(CLOCK_MONOTONIC, (struct timespec *)e);
  return 0;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned f) { return cudaEventRecord(e, s); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t began, cudaEvent_t ended) {
  struct timespec *a = (struct timespec *)began, *b = (struct timespec *)ended;
  *ms = (b->tv_sec - a->tv_sec) * 1e3f + (b->tv_nsec - a->tv_nsec) / 1e6f;
  if (*ms < 1e-3f) *ms = 1e-3f;
  return 0;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t work, void *data) { work(data); return 0; }
cudaError_t cudaStreamAddCallback(cudaStream_t s, cudaStreamCallback_t work, void *data, unsigned f) {
  work(s, 0, data);
  return 0;
}

/* ---- kernels */

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *kernel) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  a->binaryVersion = a->ptxVersion = 90;
  a->maxDynamicSharedSizeBytes = 49152;
  return 0;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *k, int b, size_t m, unsigned f) {
  *n = 2;
  return 0;
}
unsigned __cudaGetKernel(void **k, const void *f) { *k = (void *)f; return 0; }
void **__cudaRegisterFatBinary(void *binary) { static void *room[4]; return room; }
char __cudaInitModule(void **h) { return 1; }

/* ---- the driver */

#define HANDLE(value) ((void *)(uintptr_t)(value))
CUresult cuInit(unsigned f) { return 0; }
CUresult cuDriverGetVersion(int *v) { *v = CUDA_VERSION; return 0; }
CUresult cuDeviceGetCount(int *n) { *n = 1; return 0; }
CUresult cuDeviceGet(CUdevice *d, int i) { *d = 0; return 0; }
CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice d) { *v = attribute(a); return 0; }
CUresult cuDevicePrimaryCtxGetState(CUdevice d, unsigned *f, int *active) { *f = 0; *active = 1; return 0; }
CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) { *c = HANDLE(1); return 0; }
CUresult cuCtxGetCurrent(CUcontext *c) { *c = HANDLE(1); return 0; }
CUresult cuCtxSetCurrent(CUcontext c) { return 0; }
CUresult cuCtxGetLimit(size_t *v, CUlimit which) { *v = 8 << 20; return 0; }
CUresult cuCtxSetLimit(CUlimit which, size_t v) { return 0; }
CUresult cuCtxGetDevice(CUdevice *d) { *d = 0; return 0; }
CUresult cuStreamGetCtx(CUstream s, CUcontext *c) { *c = HANDLE(1); return 0; }
CUresult cuGetErrorString(CUresult e, const char **s) { *s = "an imitated card's"; return 0; }
CUresult cuModuleLoadData(CUmodule *m, const void *image) { *m = HANDLE(2); return 0; }
CUresult cuModuleLoad(CUmodule *m, const char *path) { *m = HANDLE(2); return 0; }
CUresult cuModuleLoadDataEx(CUmodule *m, const void *i, unsigned n, CUjit_option *o, void **v) { *m = HANDLE(2); return 0; }
CUresult cuModuleUnload(CUmodule m) { return 0; }
CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) { *f = HANDLE(3); return 0; }
CUresult cuFuncGetAttribute(int *v, CUfunction_attribute a, CUfunction f) {
  *v = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : a == CU_FUNC_ATTRIBUTE_NUM_REGS ? 32 : 0;
  return 0;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) { return 0; }
CUresult cuFuncSetCacheConfig(CUfunction f, CUfunc_cache c) { return 0; }
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream s, void **arguments, void **more) {
  return 0;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **arguments, void **more) { return 0; }
CUresult cuOccupancyMaxActiveClusters(int *n, CUfunction f, const CUlaunchConfig *c) { *n = 16; return 0; }
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, CUfunction f, int b, size_t m) { *n = 2; return 0; }
CUresult cuPointerGetAttribute(void *v, CUpointer_attribute a, CUdeviceptr p) {
  if (a != CU_POINTER_ATTRIBUTE_DEVICE_POINTER) return 0;
  *(CUdeviceptr *)v = p;
  return where((void *)p) ? 0 : CUDA_ERROR_INVALID_VALUE;
}

/* Expandable segments: addresses are reserved first, and memory is counted as it is made. */
CUresult cuMemAddressReserve(CUdeviceptr *p, size_t n, size_t align, CUdeviceptr at, unsigned long long f) {
  char *found = reserve(n + SEGMENT);
  if (!found) return CUDA_ERROR_OUT_OF_MEMORY;
  pthread_mutex_lock(&lock);
  keep(found, n + SEGMENT, 1);
  pthread_mutex_unlock(&lock);
  *p = ((CUdeviceptr)found + SEGMENT - 1) & ~(CUdeviceptr)(SEGMENT - 1);
  return 0;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle *h, size_t n, const CUmemAllocationProp *p, unsigned long long f) {
  pthread_mutex_lock(&lock);
  int fits = used_bytes + n + CONTEXT_BYTES <= card_bytes();
  size_t *size = fits ? malloc(sizeof *size) : 0;
  if (fits) used_bytes += *size = n;
  pthread_mutex_unlock(&lock);
  *h = (CUmemGenericAllocationHandle)size;
  return fits ? 0 : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle h) {
  pthread_mutex_lock(&lock);
  used_bytes -= *(size_t *)h;
  pthread_mutex_unlock(&lock);
  free((void *)h);
  return 0;
}
CUresult cuMemGetAllocationGranularity(size_t *g, const CUmemAllocationProp *p, CUmemAllocationGranularity_flags o) {
  *g = SEGMENT;
  return 0;
}
CUresult cuMulticastCreate(CUmemGenericAllocationHandle *h, const CUmulticastObjectProp *p) {
  return CUDA_ERROR_NOT_SUPPORTED;
}

static long nothing(void) { return 0; }
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **p, unsigned version, unsigned long long f,
                                             enum cudaDriverEntryPointQueryResult *result) {
  void *found = dlsym(RTLD_DEFAULT, name);
  *p = found ? found : (void *)nothing;
  if (result) *result = cudaDriverEntryPointSuccess;
  return 0;
}

/* ---- cuBLAS: handles and descriptions are memory of the right size, or more */

static int made(void **h) { *h = calloc(1, 4096); return 0; }
int cublasCreate_v2(void **h) { return made(h); }
int cublasLtCreate(void **h) { return made(h); }
int cublasLtMatmulPreferenceCreate(void **h) { return made(h); }
int cublasLtMatmulDescCreate(void **h, int compute, int scale) { return made(h); }
int cublasLtMatrixLayoutCreate(void **h, int type, uint64_t rows, uint64_t columns, int64_t step) { return made(h); }
int cublasGetVersion_v2(void *h, int *v) { *v = 130100; return 0; }
int cublasGetMathMode(void *h, int *v) { *v = 0; return 0; }
int cublasGetPointerMode_v2(void *h, int *v) { *v = 0; return 0; }
typedef struct { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; } Heuristic;
int cublasLtMatmulAlgoGetHeuristic(void *h, void *d, void *a, void *b, void *c, void *e, void *p, int wanted,
                                   Heuristic *found, int *n) {
  memset(found, 0, sizeof *found);
  *n = 1;
  return 0;
}
