#pragma once
#define __CUDACC_VER_MAJOR__ 13
#include <cmath>
#include <cstdint>
#include <cstddef>
#include <cstring>
#include <cstdlib>
#include <cstdio>
#include <limits>
#include <algorithm>
#include <utility>
#include <type_traits>
#include <ucontext.h>
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
using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
using std::signbit;
struct dim3 {
  unsigned x, y, z;
};
struct float2 {
  float x, y;
};
struct double2 {
  double x, y;
};
struct uint2 {
  unsigned x, y;
};
struct int2 {
  int x, y;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __float_as_int(float f) {
  int i;
  memcpy(&i, &f, 4);
  return i;
}
inline float __int_as_float(int i) {
  float f;
  memcpy(&f, &i, 4);
  return f;
}
inline unsigned __float_as_uint(float f) {
  unsigned i;
  memcpy(&i, &f, 4);
  return i;
}
inline float __uint_as_float(unsigned i) {
  float f;
  memcpy(&f, &i, 4);
  return f;
}
inline long long __double_as_longlong(double f) {
  long long i;
  memcpy(&i, &f, 8);
  return i;
}
inline double __longlong_as_double(long long i) {
  double f;
  memcpy(&f, &i, 8);
  return f;
}
inline int __double2hiint(double d) { return (int)(__double_as_longlong(d) >> 32); }
inline int __double2loint(double d) { return (int)__double_as_longlong(d); }
inline double __hiloint2double(int h, int l) {
  return __longlong_as_double(((long long)h << 32) | (unsigned)l);
}
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline double rsqrt(double x) { return 1. / sqrt(x); }
inline float rsqrt(float x) { return 1.f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double sinpi(double x) { return sin(M_PI * x); }
inline double cospi(double x) { return cos(M_PI * x); }
inline float normcdff(float x) { return .5f * erfcf(-x * 0.70710678f); }
inline double normcdf(double x) { return .5 * erfc(-x * 0.7071067811865476); }
inline unsigned short __float2half_rn(float f) {
  _Float16 h = (_Float16)f;
  unsigned short u;
  memcpy(&u, &h, 2);
  return u;
}
inline float __half2float(unsigned short u) {
  _Float16 h;
  memcpy(&h, &u, 2);
  return (float)h;
}
inline float __ldg(const float *p) { return *p; }
inline double __ldg(const double *p) { return *p; }
template <class T>
T atomicAdd(T *p, T v) {
  T o = *p;
  *p = o + v;
  return o;
}
template <class T>
T atomicMax(T *p, T v) {
  T o = *p;
  if (v > o) *p = v;
  return o;
}
template <class T>
T atomicMin(T *p, T v) {
  T o = *p;
  if (v < o) *p = v;
  return o;
}
template <class T>
T atomicExch(T *p, T v) {
  T o = *p;
  *p = v;
  return o;
}
template <class T>
T atomicCAS(T *p, T c, T v) {
  T o = *p;
  if (o == c) *p = v;
  return o;
}
template <class T>
T atomicSub(T *p, T v) {
  T o = *p;
  *p = o - v;
  return o;
}
template <class T>
T atomicAnd(T *p, T v) {
  T o = *p;
  *p = o & v;
  return o;
}
template <class T>
T atomicOr(T *p, T v) {
  T o = *p;
  *p = o | v;
  return o;
}
template <class T>
T atomicXor(T *p, T v) {
  T o = *p;
  *p = o ^ v;
  return o;
}
inline unsigned long long atomicAdd(unsigned long long *p, long long v) {
  auto o = *p;
  *p = o + v;
  return o;
}
inline void __threadfence() {}
// ---- cooperative threads of one block as fibers: a barrier is a switch to the scheduler
namespace cpu {
static ucontext_t sched;
static ucontext_t *fib;
static char *stacks;
static bool *done_;
static unsigned cur;
static void (*body)();
static const size_t STK = 32768;
static void switch_out() {
  unsigned me = cur;
  swapcontext(&fib[me], &sched);
}
static unsigned char shfl_buf[1024][16];
static void tramp() {
  body();
  done_[cur] = true;
}
inline void set_tid(unsigned t) {
  threadIdx.x = t % blockDim.x;
  threadIdx.y = (t / blockDim.x) % blockDim.y;
  threadIdx.z = t / (blockDim.x * blockDim.y);
}
static void run_block_fibers(unsigned n) {
  if (!fib) {
    fib = new ucontext_t[1024];
    stacks = (char *)aligned_alloc(4096, STK * 1024);
    done_ = new bool[1024];
  }
  for (unsigned t = 0; t < n; t++) {
    getcontext(&fib[t]);
    fib[t].uc_stack.ss_sp = stacks + STK * t;
    fib[t].uc_stack.ss_size = STK;
    fib[t].uc_link = &sched;
    done_[t] = false;
    makecontext(&fib[t], tramp, 0);
  }
  unsigned left = n;
  while (left) {
    for (unsigned t = 0; t < n; t++)
      if (!done_[t]) {
        cur = t;
        set_tid(t);
        swapcontext(&sched, &fib[t]);
        if (done_[t]) left--;
      }
  }
}
}  // namespace cpu
static inline void __syncthreads() { cpu::switch_out(); }
static inline void __syncwarp(unsigned = 0) { cpu::switch_out(); }
template <class T>
static T exchange(T v, unsigned src, unsigned lin) {
  memcpy(cpu::shfl_buf[lin], &v, sizeof v);
  cpu::switch_out();
  T r;
  memcpy(&r, cpu::shfl_buf[src], sizeof r);
  cpu::switch_out();
  return r;
}
template <class T>
static T __shfl_xor_sync(unsigned, T v, int m, int w = 32) {
  unsigned l = threadIdx.x;
  unsigned s = (l & ~31u) | ((l & 31) ^ m);
  return exchange(v, s < blockDim.x ? s : l, l);
}
template <class T>
static T __shfl_up_sync(unsigned, T v, unsigned d, int w = 32) {
  unsigned l = threadIdx.x;
  unsigned s = ((l & 31) >= d) ? l - d : l;
  return exchange(v, s, l);
}
template <class T>
static T __shfl_down_sync(unsigned, T v, unsigned d, int w = 32) {
  unsigned l = threadIdx.x;
  unsigned s = ((l & 31) + d < 32 && l + d < blockDim.x) ? l + d : l;
  return exchange(v, s, l);
}
template <class T>
static T __shfl_sync(unsigned, T v, int i, int w = 32) {
  unsigned l = threadIdx.x;
  return exchange(v, (l & ~31u) | (i & 31), l);
}
namespace cpu {
template <class... A>
struct Ent {
  static void (*f)(A...);
  static void **a;
  template <size_t... I>
  static void call(std::index_sequence<I...>) {
    f(*(typename std::remove_reference<A>::type *)a[I]...);
  }
  static void go() { call(std::index_sequence_for<A...>{}); }
};
template <class... A>
void (*Ent<A...>::f)(A...);
template <class... A>
void **Ent<A...>::a;
template <class... A>
void launch(void (*f)(A...), unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
            unsigned bz, void **a, bool sync) {
  typedef Ent<A...> E;
  E::f = f;
  E::a = a;
  body = &E::go;
  gridDim = {gx, gy, gz};
  blockDim = {bx, by, bz};
  unsigned n = bx * by * bz;
  for (unsigned z = 0; z < gz; z++)
    for (unsigned y = 0; y < gy; y++)
      for (unsigned x = 0; x < gx; x++) {
        blockIdx = {x, y, z};
        if (sync)
          run_block_fibers(n);
        else
          for (unsigned t = 0; t < n; t++) {
            set_tid(t);
            E::go();
          }
      }
}
template <class... A>
void sizes(void (*f)(A...), int *n, size_t *s) {
  *n = sizeof...(A);
  size_t v[] = {sizeof(A)..., 0};
  for (int i = 0; i < *n; i++) s[i] = v[i];
}
}  // namespace cpu
