// What CuPy's kernels, CUDA C++, need to be compiled and run by a CPU.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#define __CUDACC_VER_MAJOR__ 13
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static

using std::abs, std::isfinite, std::isinf, std::isnan, std::max, std::min, std::signbit;

struct dim3 { unsigned x, y, z; };
struct float2 { float x, y; };
struct double2 { double x, y; };
struct uint2 { unsigned x, y; };
struct int2 { int x, y; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

// ---- bits
namespace cpu {
template <class To, class From> To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits as another type");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace cpu
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __float_as_int(float x) { return cpu::bits<int>(x); }
inline float __int_as_float(int x) { return cpu::bits<float>(x); }
inline unsigned __float_as_uint(float x) { return cpu::bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return cpu::bits<float>(x); }
inline long long __double_as_longlong(double x) { return cpu::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cpu::bits<double>(x); }
inline int __double2hiint(double x) { return int(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return int(__double_as_longlong(x)); }
inline double __hiloint2double(int high, int low) {
  return __longlong_as_double(((long long)high << 32) | (unsigned)low);
}
inline unsigned short __float2half_rn(float x) { return cpu::bits<unsigned short>(_Float16(x)); }
inline float __half2float(unsigned short x) { return float(cpu::bits<_Float16>(x)); }

// ---- functions
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double sinpi(double x) { return sin(M_PI * x); }
inline double cospi(double x) { return cos(M_PI * x); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * float(M_SQRT1_2)); }
inline double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
inline float __ldg(const float *at) { return *at; }
inline double __ldg(const double *at) { return *at; }

// ---- atomics, for the types that CUDA has them for: threads run one after the other
#define ATOMIC(name, T, result)                           \
  inline T atomic##name(T *at, T value) {                 \
    T old = *at;                                          \
    *at = result;                                         \
    return old;                                           \
  }
#define ATOMICS_OF_INTEGERS(T)                            \
  ATOMIC(Add, T, old + value)                             \
  ATOMIC(Max, T, std::max(old, value))                    \
  ATOMIC(Min, T, std::min(old, value))                    \
  ATOMIC(And, T, old & value)                             \
  ATOMIC(Or, T, old | value)                              \
  ATOMIC(Xor, T, old ^ value)                             \
  ATOMIC(Exch, T, value)                                  \
  inline T atomicCAS(T *at, T expected, T value) {        \
    T old = *at;                                          \
    if (old == expected) *at = value;                     \
    return old;                                           \
  }
ATOMICS_OF_INTEGERS(int)
ATOMICS_OF_INTEGERS(unsigned)
ATOMICS_OF_INTEGERS(unsigned long long)
ATOMIC(Add, float, old + value)
ATOMIC(Add, double, old + value)
ATOMIC(Exch, float, value)
ATOMIC(Sub, int, old - value)
ATOMIC(Sub, unsigned, old - value)
ATOMIC(Max, long long, std::max(old, value))
ATOMIC(Min, long long, std::min(old, value))
inline void __threadfence() {}

// ---- threads of one block that wait for each other: fibers, each of which runs until it waits
namespace cpu {
static const unsigned MOST = 1024;
static const size_t STACK = 32768;
enum Barrier : unsigned char { NONE, WARP, BLOCK };
static ucontext_t scheduler, *fibers;
static char *stacks;
static Barrier waits[MOST];
static bool ended[MOST];
static unsigned running;
static void (*body)();
static unsigned char exchanged[MOST][16];

static void wait(Barrier at) {
  waits[running] = at;
  swapcontext(&fibers[running], &scheduler);
}
static void fiber() {
  body();
  ended[running] = true;
}
inline void become(unsigned thread) {
  threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
               thread / (blockDim.x * blockDim.y)};
}
static void run_together(unsigned threads) {
  if (!fibers) {
    fibers = new ucontext_t[MOST];
    stacks = static_cast<char *>(aligned_alloc(4096, STACK * MOST));
  }
  for (unsigned i = 0; i < threads; i++) {
    getcontext(&fibers[i]);
    fibers[i].uc_stack.ss_sp = stacks + STACK * i;
    fibers[i].uc_stack.ss_size = STACK;
    fibers[i].uc_link = &scheduler;
    waits[i] = NONE;
    ended[i] = false;
    makecontext(&fibers[i], fiber, 0);
  }
  for (unsigned left = threads; left;) {
    Barrier lowest = BLOCK;
    for (unsigned i = 0; i < threads; i++) {
      if (ended[i]) continue;
      if (waits[i] == NONE) {
        become(running = i);
        swapcontext(&scheduler, &fibers[i]);
        left -= ended[i];
      }
      if (!ended[i]) lowest = std::min(lowest, waits[i]);
    }
    // All wait: a warp may meet often while the other warps wait for the block.
    for (unsigned i = 0; i < threads; i++)
      if (waits[i] == lowest) waits[i] = NONE;
  }
}
// The value of thread `from`, to which this one gives its own.
template <class T> T exchange(T value, unsigned from) {
  memcpy(exchanged[threadIdx.x], &value, sizeof value);
  wait(WARP);
  memcpy(&value, exchanged[from], sizeof value);
  wait(WARP);
  return value;
}
}  // namespace cpu
inline void __syncthreads() { cpu::wait(cpu::BLOCK); }
inline void __syncwarp(unsigned = 0) { cpu::wait(cpu::WARP); }
template <class T> T __shfl_sync(unsigned, T value, int lane, int = 32) {
  return cpu::exchange(value, (threadIdx.x & ~31u) | (lane & 31));
}
template <class T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  unsigned self = threadIdx.x, from = (self & ~31u) | ((self & 31) ^ mask);
  return cpu::exchange(value, from < blockDim.x ? from : self);
}
template <class T> T __shfl_up_sync(unsigned, T value, unsigned by, int = 32) {
  unsigned self = threadIdx.x;
  return cpu::exchange(value, (self & 31) >= by ? self - by : self);
}
template <class T> T __shfl_down_sync(unsigned, T value, unsigned by, int = 32) {
  unsigned self = threadIdx.x;
  return cpu::exchange(value, (self & 31) + by < 32 && self + by < blockDim.x ? self + by : self);
}

// ---- launches
namespace cpu {
template <class... A> struct Kernel {
  static inline void (*function)(A...);
  static inline void **arguments;
  template <size_t... I> static void call(std::index_sequence<I...>) {
    function(*static_cast<std::remove_reference_t<A> *>(arguments[I])...);
  }
  static void run() { call(std::index_sequence_for<A...>{}); }
};
template <class... A>
void launch(void (*function)(A...), unsigned gx, unsigned gy, unsigned gz, unsigned bx,
            unsigned by, unsigned bz, void **arguments, bool cooperative) {
  Kernel<A...>::function = function;
  Kernel<A...>::arguments = arguments;
  body = Kernel<A...>::run;
  gridDim = {gx, gy, gz};
  blockDim = {bx, by, bz};
  for (unsigned z = 0; z < gz; z++)
    for (unsigned y = 0; y < gy; y++)
      for (unsigned x = 0; x < gx; x++) {
        blockIdx = {x, y, z};
        if (cooperative) {
          run_together(bx * by * bz);
          continue;
        }
        for (unsigned i = 0; i < bx * by * bz; i++) {
          become(i);
          body();
        }
      }
}
template <class... A> void sizes(void (*)(A...), int *count, size_t *bytes) {
  size_t each[] = {sizeof(A)..., 0};
  *count = sizeof...(A);
  std::copy(each, each + *count, bytes);
}
}  // namespace cpu
