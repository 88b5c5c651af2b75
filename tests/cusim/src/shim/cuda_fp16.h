#pragma once
#include <cstring>
struct __half_raw {
  unsigned short x;
};
struct half {
  unsigned short d;
  half() {}
  half(const half &) = default;
  half &operator=(const half &) = default;
  half(float v) : d(__float2half_rn(v)) {}
  explicit half(const __half_raw &v) : d(v.x) {}
  explicit half(bool v) : half((float)v) {}
  explicit half(double v) : half((float)v) {}
  explicit half(int v) : half((float)v) {}
  explicit half(unsigned v) : half((float)v) {}
  explicit half(long v) : half((float)v) {}
  explicit half(unsigned long v) : half((float)v) {}
  explicit half(long long v) : half((float)v) {}
  explicit half(unsigned long long v) : half((float)v) {}
  operator float() const { return __half2float(d); }
  operator __half_raw() const {
    __half_raw r = {d};
    return r;
  }
};
typedef half __half;
inline unsigned short __half_as_ushort(half h) { return h.d; }
inline half __ushort_as_half(unsigned short u) {
  __half_raw r = {u};
  return half(r);
}
