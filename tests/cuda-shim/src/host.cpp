// kernels.cu on the host: the words of CUDA that it uses, and one thread after another.

#include <cmath>
#include <cstring>

#define __device__
#define __global__
#define __forceinline__ inline

namespace {

struct Dimension {
  unsigned x;
};
thread_local Dimension blockIdx, threadIdx, blockDim, gridDim;

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
// Kernels of one stream run one after another, and no two streams share a status word.
inline unsigned long long atomicMin(unsigned long long* at, unsigned long long value) {
  unsigned long long old = *at;
  if (value < old) *at = value;
  return old;
}

}  // namespace

#include "kernels.cu"

namespace {

template <typename T>
T arg(void* const* args, int i) {
  T value;
  std::memcpy(&value, args[i], sizeof value);
  return value;
}

template <typename Kernel>
void run(unsigned blocks, unsigned threads, Kernel kernel) {
  gridDim.x = blocks;
  blockDim.x = threads;
  for (unsigned b = 0; b < blocks; b++) {
    for (unsigned t = 0; t < threads; t++) {
      blockIdx.x = b;
      threadIdx.x = t;
      kernel();
    }
  }
}

}  // namespace

// Runs the kernel of a number (`kernels.rs`) with copies of its arguments.
extern "C" void shim_kernel(int kernel, unsigned blocks, unsigned threads, void* const* args) {
  using P = void*;
  using F = float*;
  using D = double*;
  using U = unsigned;
  using N = unsigned long long;
  auto p = [&](int i) { return arg<P>(args, i); };
  auto f = [&](int i) { return arg<F>(args, i); };
  auto d = [&](int i) { return arg<D>(args, i); };
  auto u = [&](int i) { return arg<U>(args, i); };
  auto n = [&](int i) { return arg<N>(args, i); };
  auto s = [&](int i) { return arg<float>(args, i); };
  auto w = [&](int i) { return arg<N*>(args, i); };
  run(blocks, threads, [&] {
    switch (kernel) {
      case 0: return decode(p(0), u(1), f(2), n(3));
      case 1: return add(f(0), f(1), s(2), n(3));
      case 2: return lanes_of_standing(f(0), n(1), n(2), d(3));
      case 3: return lanes_of_original(p(0), u(1), f(2), s(3), n(4), n(5), d(6));
      case 4: return row_gains(d(0), f(1), f(2), n(3), w(4));
      case 5: return scale_rows(f(0), f(1), n(2), n(3));
      case 6: return scale_columns(f(0), f(1), n(2), n(3));
      default: return encode(f(0), p(1), u(2), n(3), w(4));
    }
  });
}

// For the test of the conversions against the definition.
extern "C" void shim_convert(unsigned dtype, const void* in, void* out, unsigned long long n, int up) {
  for (unsigned long long i = 0; i < n; i++) {
    if (up) {
      static_cast<float*>(out)[i] = load(in, dtype, i);
    } else {
      float value = static_cast<const float*>(in)[i];
      static_cast<u16*>(out)[i] = dtype == F16 ? f32_to_f16(value) : f32_to_bf16(value);
    }
  }
}
