// cuBLAS: the products that CuPy makes, on matrices in columns. Real single and double products go
// to the BLAS inside NumPy's wheel (CUSIM_BLAS), the others through plain loops.
#include "sim.h"

#include <complex>
#include <dlfcn.h>

using namespace std;

enum {
  SUCCESS = 0,
  NOT_INITIALIZED = 1,
  ALLOC_FAILED = 3,
  EXECUTION_FAILED = 13,
  NOT_SUPPORTED = 15,
};
enum { COMPUTE_64F = 70, COMPUTE_64F_PEDANTIC = 71 };

struct Handle {
  int device;
  cudaStream_t stream;
  int pointer_mode;  // 1: the factors and results of a product are in device memory
  int math_mode;
};

EXPORT int cublasCreate_v2(Handle **to) {
  if (sim::enter()) return NOT_INITIALIZED;
  if (sim::fails("cublas")) return ALLOC_FAILED;
  *to = new Handle{sim::current_device()};
  return SUCCESS;
}
EXPORT int cublasDestroy_v2(Handle *self) { return delete self, SUCCESS; }
EXPORT int cublasGetVersion_v2(Handle *, int *to) { return *to = 130200, SUCCESS; }
EXPORT int cublasSetStream_v2(Handle *self, cudaStream_t to) { return self->stream = to, SUCCESS; }
EXPORT int cublasGetStream_v2(Handle *self, cudaStream_t *to) {
  return *to = self->stream, SUCCESS;
}
EXPORT int cublasSetPointerMode_v2(Handle *self, int to) {
  return self->pointer_mode = to, SUCCESS;
}
EXPORT int cublasGetPointerMode_v2(Handle *self, int *to) {
  return *to = self->pointer_mode, SUCCESS;
}
EXPORT int cublasSetMathMode(Handle *self, int to) { return self->math_mode = to, SUCCESS; }
EXPORT int cublasGetMathMode(Handle *self, int *to) { return *to = self->math_mode, SUCCESS; }
EXPORT int cublasSetWorkspace_v2(Handle *, void *, size_t) { return SUCCESS; }

// Runs work that reads and writes at these addresses.
static int run(Handle *self, const vector<const void *> &addresses, function<void()> work) {
  if (sim::enter()) return NOT_INITIALIZED;
  if (sim::fails("cublas")) return ALLOC_FAILED;
  int current = sim::current_device(), other = sim::foreign(self->device, addresses);
  if (self->device != current || other >= 0) {
    sim::explain("a product on device " + to_string(self->device) +
                 (other >= 0 ? " was given memory of device " + to_string(other)
                             : " was started while device " + to_string(current) + " is current"));
    return EXECUTION_FAILED;
  }
  return sim::submit(self->stream, work) ? EXECUTION_FAILED : SUCCESS;
}

typedef complex<float> C32;
typedef complex<double> C64;
enum Type { F32 = 0, F64 = 1, F16 = 2, COMPLEX32 = 4, COMPLEX64 = 5 };  // as cudaDataType
static int bytes(int type) {
  return type == F16 ? 2 : type == F32 ? 4 : type == COMPLEX64 ? 16 : 8;
}

struct Product {  // C = alpha op(A) op(B) + beta C
  int type, ta, tb, m, n, k;
  C64 alpha, beta;
  const void *a, *b;
  void *c;
  int lda, ldb, ldc;
};

static float conjugate(float x) { return x; }
static double conjugate(double x) { return x; }
template <class T> static complex<T> conjugate(complex<T> x) { return conj(x); }
template <class T> static void scale(C64 by, T &x) { x = T(real(by) * x); }
template <class T> static void scale(C64 by, complex<T> &x) { x = complex<T>(by * C64(x)); }

template <class T, class Sum> static void loops(const Product &p) {
  auto a = static_cast<const T *>(p.a), b = static_cast<const T *>(p.b);
  auto c = static_cast<T *>(p.c);
  for (long j = 0; j < p.n; j++)
    for (long i = 0; i < p.m; i++) {
      Sum sum = 0, old = 0;
      for (long l = 0; l < p.k; l++) {
        Sum x = Sum(a[p.ta ? l + i * p.lda : i + l * p.lda]);
        Sum y = Sum(b[p.tb ? j + l * p.ldb : l + j * p.ldb]);
        sum += (p.ta == 2 ? conjugate(x) : x) * (p.tb == 2 ? conjugate(y) : y);
      }
      scale(p.alpha, sum);
      if (p.beta != 0.0) scale(p.beta, old = Sum(c[i + j * p.ldc]));
      c[i + j * p.ldc] = T(sum + old);
    }
}

template <class T> using Gemm = void (*)(int, int, int, long, long, long, T, const T *, long,
                                         const T *, long, T, T *, long);
static void *blas(const char *name) {
  static void *library = [] {
    const char *path = getenv("CUSIM_BLAS");
    return path && *path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  }();
  return library ? dlsym(library, name) : nullptr;
}
template <class T> static void real_product(Gemm<T> gemm, const Product &p) {
  if (!gemm || p.m <= 0 || p.n <= 0 || p.k <= 0) return loops<T, T>(p);
  auto order = [](int transposed) { return transposed ? 112 : 111; };
  gemm(102, order(p.ta), order(p.tb), p.m, p.n, p.k, T(real(p.alpha)), static_cast<const T *>(p.a),
       p.lda, static_cast<const T *>(p.b), p.ldb, T(real(p.beta)), static_cast<T *>(p.c), p.ldc);
}
static void multiply(const Product &p) {
  static auto single = Gemm<float>(blas("scipy_cblas_sgemm64_"));
  static auto twice = Gemm<double>(blas("scipy_cblas_dgemm64_"));
  switch (p.type) {
    case F32: return real_product(single, p);
    case F64: return real_product(twice, p);
    case F16: return loops<_Float16, float>(p);
    case COMPLEX32: return loops<C32, C32>(p);
    case COMPLEX64: return loops<C64, C64>(p);
  }
}

static C64 read(const void *scalar, int type) {
  switch (type) {
    case F64: return *static_cast<const double *>(scalar);
    case COMPLEX32: return *static_cast<const C32 *>(scalar);
    case COMPLEX64: return *static_cast<const C64 *>(scalar);
  }
  return *static_cast<const float *>(scalar);
}
// The factors are read now from the host, and when the product runs from the device.
static function<void(Product &)> factors(Handle *self, const void *alpha, const void *beta,
                                         int type) {
  if (self->pointer_mode == 1)
    return [=](Product &p) { p.alpha = read(alpha, type), p.beta = read(beta, type); };
  C64 x = read(alpha, type), y = read(beta, type);
  return [=](Product &p) { p.alpha = x, p.beta = y; };
}

struct Strides {
  long a, b, c;
};
static int strided(Handle *self, Product p, const void *alpha, const void *beta, int scalar,
                   Strides strides, int count) {
  if (p.type != F32 && p.type != F64 && p.type != F16 && p.type != COMPLEX32 && p.type != COMPLEX64)
    return NOT_SUPPORTED;
  auto set = factors(self, alpha, beta, scalar);
  int size = bytes(p.type);
  if (!sim::capturing(self->stream)) sim::stats.gemm++;
  return run(self, {p.a, p.b, p.c}, [=] {
    for (long i = 0; i < count; i++) {
      Product one = p;
      set(one);
      one.a = static_cast<const char *>(p.a) + i * strides.a * size;
      one.b = static_cast<const char *>(p.b) + i * strides.b * size;
      one.c = static_cast<char *>(p.c) + i * strides.c * size;
      multiply(one);
    }
  });
}
static int batched(Handle *self, Product p, const void *alpha, const void *beta, const void **a,
                   const void **b, void **c, int count) {
  auto set = factors(self, alpha, beta, p.type);
  if (!sim::capturing(self->stream)) sim::stats.gemm++;
  return run(self, {a, b, c}, [=] {  // the addresses are in device memory themselves
    for (int i = 0; i < count; i++) {
      Product one = p;
      set(one);
      one.a = a[i], one.b = b[i], one.c = c[i];
      multiply(one);
    }
  });
}

// The type of alpha and beta: single for CUBLAS_COMPUTE_32F and half products of CuPy, else as C.
static int scalar(int type, int compute) {
  if (type == COMPLEX32 || type == COMPLEX64) return type;
  return compute == COMPUTE_64F || compute == COMPUTE_64F_PEDANTIC ? F64 : F32;
}
EXPORT int cublasGemmEx(Handle *self, int ta, int tb, int m, int n, int k, const void *alpha,
                        const void *a, int, int lda, const void *b, int, int ldb, const void *beta,
                        void *c, int type, int ldc, int compute, int) {
  return strided(self, {type, ta, tb, m, n, k, 0, 0, a, b, c, lda, ldb, ldc}, alpha, beta,
                 scalar(type, compute), {}, 1);
}
EXPORT int cublasSgemmEx(Handle *self, int ta, int tb, int m, int n, int k, const float *alpha,
                         const void *a, int, int lda, const void *b, int, int ldb,
                         const float *beta, void *c, int type, int ldc) {
  return strided(self, {type, ta, tb, m, n, k, 0, 0, a, b, c, lda, ldb, ldc}, alpha, beta, F32, {},
                 1);
}
EXPORT int cublasGemmStridedBatchedEx(Handle *self, int ta, int tb, int m, int n, int k,
                                      const void *alpha, const void *a, int, int lda, long sa,
                                      const void *b, int, int ldb, long sb, const void *beta,
                                      void *c, int type, int ldc, long sc, int count, int compute,
                                      int) {
  return strided(self, {type, ta, tb, m, n, k, 0, 0, a, b, c, lda, ldb, ldc}, alpha, beta,
                 scalar(type, compute), {sa, sb, sc}, count);
}
#define GEMM(letter, type)                                                                         \
  EXPORT int cublas##letter##gemm_v2(Handle *self, int ta, int tb, int m, int n, int k,            \
                                     const void *alpha, const void *a, int lda, const void *b,     \
                                     int ldb, const void *beta, void *c, int ldc) {                \
    return strided(self, {type, ta, tb, m, n, k, 0, 0, a, b, c, lda, ldb, ldc}, alpha, beta, type, \
                   {}, 1);                                                                         \
  }                                                                                                \
  EXPORT int cublas##letter##gemmStridedBatched(                                                   \
      Handle *self, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,         \
      int lda, long sa, const void *b, int ldb, long sb, const void *beta, void *c, int ldc,       \
      long sc, int count) {                                                                        \
    return strided(self, {type, ta, tb, m, n, k, 0, 0, a, b, c, lda, ldb, ldc}, alpha, beta, type, \
                   {sa, sb, sc}, count);                                                           \
  }                                                                                                \
  EXPORT int cublas##letter##gemmBatched(                                                          \
      Handle *self, int ta, int tb, int m, int n, int k, const void *alpha, const void **a,        \
      int lda, const void **b, int ldb, const void *beta, void **c, int ldc, int count) {          \
    return batched(self, {type, ta, tb, m, n, k, 0, 0, nullptr, nullptr, nullptr, lda, ldb, ldc},  \
                   alpha, beta, a, b, c, count);                                                   \
  }
GEMM(S, F32)
GEMM(D, F64)
GEMM(C, COMPLEX32)
GEMM(Z, COMPLEX64)

#define DOT(letter, T)                                                                           \
  EXPORT int cublas##letter##dot_v2(Handle *self, int n, const T *x, int sx, const T *y, int sy, \
                                    T *to) {                                                     \
    if (self->pointer_mode == 0) sim::finish();                                                  \
    auto work = [=] {                                                                            \
      T sum = 0;                                                                                 \
      for (long i = 0; i < n; i++) sum += x[i * sx] * y[i * sy];                                 \
      *to = sum;                                                                                 \
    };                                                                                           \
    if (self->pointer_mode == 0) return work(), SUCCESS;                                         \
    return run(self, {x, y, to}, work);                                                          \
  }
DOT(S, float)
DOT(D, double)

// C = alpha op(A) + beta op(B)
#define GEAM(letter, T, type)                                                                    \
  EXPORT int cublas##letter##geam(Handle *self, int ta, int tb, int m, int n, const T *alpha,    \
                                  const T *a, int lda, const T *beta, const T *b, int ldb, T *c, \
                                  int ldc) {                                                     \
    auto set = factors(self, alpha, beta, type);                                                 \
    return run(self, {a, b, c}, [=] {                                                            \
      Product p = {};                                                                            \
      set(p);                                                                                    \
      for (long j = 0; j < n; j++)                                                               \
        for (long i = 0; i < m; i++) {                                                           \
          double sum = 0;                                                                        \
          if (p.alpha != 0.0) sum += real(p.alpha) * a[ta ? j + i * lda : i + j * lda];          \
          if (p.beta != 0.0) sum += real(p.beta) * b[tb ? j + i * ldb : i + j * ldb];            \
          c[i + j * ldc] = T(sum);                                                               \
        }                                                                                        \
    });                                                                                          \
  }
GEAM(S, float, F32)
GEAM(D, double, F64)
