// cuSOLVER: QR, SVD and Cholesky, by the LAPACK inside NumPy's wheel (CUSIM_BLAS). The calls do not
// follow streams: what is pending is done first.
#include "sim.h"

#include <dlfcn.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 2, EXECUTION_FAILED = 6 };

typedef long Int;

static void *lapack(const char *name) {
  static void *library = dlopen(getenv("CUSIM_BLAS"), RTLD_NOW);
  void *found = library ? dlsym(library, name) : nullptr;
  if (!found) fprintf(stderr, "[cusim] NumPy's LAPACK has no %s\n", name);
  return found;
}
template <class... Arguments> static int solve(const char *name, Arguments... arguments) {
  auto routine = reinterpret_cast<void (*)(Arguments...)>(lapack(name));
  if (!routine) return EXECUTION_FAILED;
  sim::finish();
  routine(arguments...);
  return SUCCESS;
}

EXPORT int cusolverDnCreate(void **to) {
  if (sim::enter()) return NOT_INITIALIZED;
  if (sim::fails("cusolver")) return ALLOC_FAILED;
  return *to = new char, SUCCESS;
}
EXPORT int cusolverDnDestroy(void *self) { return delete static_cast<char *>(self), SUCCESS; }
EXPORT int cusolverDnSetStream(void *, cudaStream_t) { return SUCCESS; }
EXPORT int cusolverDnGetStream(void *, cudaStream_t *to) { return *to = nullptr, SUCCESS; }
EXPORT int cusolverGetProperty(int what, int *to) { return *to = what == 0 ? 12 : 0, SUCCESS; }

#define ROUTINES(X, x, T)                                                                         \
  EXPORT int cusolverDn##X##geqrf_bufferSize(void *, int m, int n, T *, int, int *to) {           \
    return *to = 64 * (m + n + 1), SUCCESS;                                                       \
  }                                                                                               \
  EXPORT int cusolverDn##X##geqrf(void *, int m, int n, T *a, int lda, T *tau, T *work, int size, \
                                  int *info) {                                                    \
    Int M = m, N = n, A = lda, W = size, I = 0;                                                   \
    int status = solve("scipy_" #x "geqrf_64_", &M, &N, a, &A, tau, work, &W, &I);                \
    return *info = int(I), status;                                                                \
  }                                                                                               \
  EXPORT int cusolverDn##X##orgqr_bufferSize(void *, int m, int n, int, T *, int, T *, int *to) { \
    return *to = 64 * (m + n + 1), SUCCESS;                                                       \
  }                                                                                               \
  EXPORT int cusolverDn##X##orgqr(void *, int m, int n, int k, T *a, int lda, T *tau, T *work,    \
                                  int size, int *info) {                                          \
    Int M = m, N = n, K = k, A = lda, W = size, I = 0;                                            \
    int status = solve("scipy_" #x "orgqr_64_", &M, &N, &K, a, &A, tau, work, &W, &I);            \
    return *info = int(I), status;                                                                \
  }                                                                                               \
  EXPORT int cusolverDn##X##gesvd_bufferSize(void *, int m, int n, int *to) {                     \
    return *to = 64 * (m + n + 1), SUCCESS;                                                       \
  }                                                                                               \
  EXPORT int cusolverDn##X##gesvd(void *, signed char ju, signed char jv, int m, int n, T *a,     \
                                  int lda, T *s, T *u, int ldu, T *v, int ldv, T *work, int size, \
                                  T *, int *info) {                                               \
    Int M = m, N = n, A = lda, U = ldu, V = ldv, W = size, I = 0;                                 \
    char left = ju, right = jv;                                                                   \
    int status = solve("scipy_" #x "gesvd_64_", &left, &right, &M, &N, a, &A, s, u, &U, v, &V,    \
                       work, &W, &I, Int(1), Int(1));                                             \
    return *info = int(I), status;                                                                \
  }                                                                                               \
  EXPORT int cusolverDn##X##potrf_bufferSize(void *, int, int n, T *, int, int *to) {             \
    return *to = 64 * n, SUCCESS;                                                                 \
  }                                                                                               \
  EXPORT int cusolverDn##X##potrf(void *, int lower, int n, T *a, int lda, T *, int, int *info) { \
    Int N = n, A = lda, I = 0;                                                                    \
    char half = lower == 0 ? 'L' : 'U';                                                           \
    int status = solve("scipy_" #x "potrf_64_", &half, &N, a, &A, &I, Int(1));                    \
    return *info = int(I), status;                                                                \
  }
ROUTINES(S, s, float)
ROUTINES(D, d, double)
