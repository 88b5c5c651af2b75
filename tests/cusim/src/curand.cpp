// cuRAND: generators on the host, of other numbers than cuRAND's. They do not follow streams: what
// is pending is done first.
#include "sim.h"

#include <random>

enum {
  SUCCESS = 0,
  ALLOCATION_FAILED = 102,
  LENGTH_NOT_MULTIPLE = 105,
  INITIALIZATION_FAILED = 203
};

typedef std::mt19937_64 Generator;

EXPORT int curandCreateGenerator(Generator **to, int) {
  if (sim::enter()) return INITIALIZATION_FAILED;
  if (sim::fails("curand")) return ALLOCATION_FAILED;
  *to = new Generator(0);
  return SUCCESS;
}
EXPORT int curandDestroyGenerator(Generator *self) { return delete self, SUCCESS; }
EXPORT int curandGetVersion(int *to) { return *to = 10400, SUCCESS; }
EXPORT int curandSetStream(Generator *, cudaStream_t) { return SUCCESS; }
EXPORT int curandSetPseudoRandomGeneratorSeed(Generator *self, unsigned long long seed) {
  return self->seed(seed), SUCCESS;
}
EXPORT int curandSetGeneratorOffset(Generator *, unsigned long long) { return SUCCESS; }
EXPORT int curandSetGeneratorOrdering(Generator *, int) { return SUCCESS; }

template <class T, class Draw> static int generate(T *to, size_t size, Draw draw) {
  sim::finish();
  for (size_t i = 0; i < size; i++) to[i] = draw();
  return SUCCESS;
}
EXPORT int curandGenerate(Generator *self, unsigned *to, size_t size) {
  return generate(to, size, [=] { return unsigned((*self)()); });
}
EXPORT int curandGenerateLongLong(Generator *self, unsigned long long *to, size_t size) {
  return generate(to, size, [=] { return (*self)(); });
}
template <class T> static int uniform(Generator *self, T *to, size_t size) {
  std::uniform_real_distribution<T> numbers;
  return generate(to, size, [&] { return 1 - numbers(*self); });  // 0 excluded, 1 included
}
template <class T> static int normal(Generator *self, T *to, size_t size, T mean, T deviation) {
  if (size % 2) return LENGTH_NOT_MULTIPLE;
  std::normal_distribution<T> numbers(mean, deviation);
  return generate(to, size, [&] { return numbers(*self); });
}
EXPORT int curandGenerateUniform(Generator *self, float *to, size_t size) {
  return uniform(self, to, size);
}
EXPORT int curandGenerateUniformDouble(Generator *self, double *to, size_t size) {
  return uniform(self, to, size);
}
EXPORT int curandGenerateNormal(Generator *self, float *to, size_t size, float mean,
                                float deviation) {
  return normal(self, to, size, mean, deviation);
}
EXPORT int curandGenerateNormalDouble(Generator *self, double *to, size_t size, double mean,
                                      double deviation) {
  return normal(self, to, size, mean, deviation);
}
