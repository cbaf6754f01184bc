// The arithmetic around the GEMM: what `merge/src/fuse` defines, operation by operation.
//
// Every thread computes whole elements (or one of the sixteen lanes of a row's norm) and none looks at another's
// registers, so the launch shape has no part in the bits. All operations are spelled as IEEE ones: nothing is left for
// the compiler to contract. No header is needed. bf16 and fp16 are converted in integer arithmetic, as on the CPU.
//
// Built to `kernels.ptx` by `build-ptx.sh`.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

// dtype codes, as in `kernels.rs`.
#define F32 0u
#define F16 1u
#define BF16 2u

#define LANES 16

static __device__ __forceinline__ float bf16_to_f32(u16 bits) { return __uint_as_float((u32)bits << 16); }

// Ties to even; subnormals are kept, overflow becomes infinity, a NaN becomes quiet.
static __device__ __forceinline__ u16 f32_to_bf16(float value) {
  u32 bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x0040u);
  return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static __device__ __forceinline__ float f16_to_f32(u16 half) {
  u32 sign = ((u32)half & 0x8000u) << 16;
  u32 exponent = ((u32)half >> 10) & 0x1fu;
  u32 fraction = (u32)half & 0x3ffu;
  if (exponent == 0x1fu) {
    // A NaN becomes quiet and keeps its payload.
    u32 quiet = fraction ? 0x00400000u : 0u;
    return __uint_as_float(sign | 0x7f800000u | quiet | (fraction << 13));
  }
  if (exponent != 0u) return __uint_as_float(sign | ((exponent + 112u) << 23) | (fraction << 13));
  if (fraction == 0u) return __uint_as_float(sign);
  // A subnormal: shifted until its leading one is where a normal's is implied.
  u32 shift = 0u;
  while (!(fraction & 0x400u)) {
    fraction <<= 1;
    shift += 1u;
  }
  return __uint_as_float(sign | ((113u - shift) << 23) | ((fraction & 0x3ffu) << 13));
}

// Ties to even; subnormals are kept, overflow becomes infinity, a NaN becomes quiet.
static __device__ __forceinline__ u16 f32_to_f16(float value) {
  u32 bits = __float_as_uint(value);
  u32 sign = (bits >> 16) & 0x8000u;
  u32 rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return (u16)(sign | 0x7e00u | ((rest >> 13) & 0x3ffu));
  if (rest >= 0x47800000u) return (u16)(sign | 0x7c00u);
  if (rest >= 0x38800000u) {
    // A normal: the exponent is moved, and the carry of the rounding runs into it as it should.
    u32 moved = rest - 0x38000000u;
    return (u16)(sign | ((moved + 0x0fffu + ((moved >> 13) & 1u)) >> 13));
  }
  // A subnormal, or nothing: the fraction with its leading one, shifted right by 14 to 24 bits.
  if (rest < 0x33000000u) return (u16)sign;
  u32 fraction = (rest & 0x007fffffu) | 0x00800000u;
  u32 shift = 126u - (rest >> 23);
  u32 kept = fraction >> shift;
  u32 lost = fraction & ((1u << shift) - 1u);
  u32 half = 1u << (shift - 1u);
  if (lost > half || (lost == half && (kept & 1u))) kept += 1u;
  return (u16)(sign | kept);
}

static __device__ __forceinline__ float load(const void* raw, u32 dtype, u64 i) {
  if (dtype == F32) return ((const float*)raw)[i];
  u16 bits = ((const u16*)raw)[i];
  return dtype == F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

static __device__ __forceinline__ u64 first() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
static __device__ __forceinline__ u64 stride() { return (u64)gridDim.x * blockDim.x; }

// w = upcast(raw)
extern "C" __global__ void decode(const void* raw, u32 dtype, float* w, u64 n) {
  for (u64 i = first(); i < n; i += stride()) w[i] = load(raw, dtype, i);
}

// w = fma(scale, delta, w)
extern "C" __global__ void add(float* w, const float* delta, float scale, u64 n) {
  for (u64 i = first(); i < n; i += stride()) w[i] = __fmaf_rn(scale, delta[i], w[i]);
}

static __device__ __forceinline__ double plus_square(double sum, float value) {
  return __dadd_rn(sum, __dmul_rn((double)value, (double)value));
}

// The sixteen lanes of each row's sum of squares: element j goes to lane j % 16, in order.
extern "C" __global__ void lanes_of_standing(const float* w, u64 rows, u64 cols, double* lanes) {
  for (u64 i = first(); i < rows * LANES; i += stride()) {
    const float* row = w + i / LANES * cols;
    double sum = 0.0;
    for (u64 j = i % LANES; j < cols; j += LANES) sum = plus_square(sum, row[j]);
    lanes[i] = sum;
  }
}

// The same of the start plus this delta.
extern "C" __global__ void lanes_of_original(const void* raw, u32 dtype, const float* delta, float scale, u64 rows,
                                             u64 cols, double* lanes) {
  for (u64 i = first(); i < rows * LANES; i += stride()) {
    u64 row = i / LANES * cols;
    double sum = 0.0;
    for (u64 j = i % LANES; j < cols; j += LANES)
      sum = plus_square(sum, __fmaf_rn(scale, delta[row + j], load(raw, dtype, row + j)));
    lanes[i] = sum;
  }
}

// Folds the lanes in a fixed tree and takes m / n of each row. `bad` gets the least of (row << 32 | the norm as fp32
// bits) over the rows that have none.
extern "C" __global__ void row_gains(const double* lanes, const float* magnitudes, float* gains, u64 rows, u64* bad) {
  for (u64 i = first(); i < rows; i += stride()) {
    double fold[LANES];
    for (u32 l = 0; l < LANES; l++) fold[l] = lanes[i * LANES + l];
    for (u32 half = LANES / 2; half > 0; half /= 2)
      for (u32 l = 0; l < half; l++) fold[l] = __dadd_rn(fold[l], fold[l + half]);
    double norm = __dsqrt_rn(fold[0]);
    float gain = __double2float_rn(__ddiv_rn((double)magnitudes[i], norm));
    gains[i] = gain;
    bool usable = norm > 0.0 && norm <= 1.7976931348623157e308;
    if (!usable || (__float_as_uint(gain) & 0x7f800000u) == 0x7f800000u)
      atomicMin(bad, i << 32 | __float_as_uint(__double2float_rn(norm)));
  }
}

extern "C" __global__ void scale_rows(float* w, const float* gains, u64 rows, u64 cols) {
  u64 n = rows * cols;
  for (u64 i = first(); i < n; i += stride()) w[i] = __fmul_rn(w[i], gains[i / cols]);
}

extern "C" __global__ void scale_columns(float* w, const float* gains, u64 rows, u64 cols) {
  u64 n = rows * cols;
  for (u64 i = first(); i < n; i += stride()) w[i] = __fmul_rn(w[i], gains[i % cols]);
}

// Rounds to the output's dtype. `bad` gets the least of (index << 32 | fp32 bits) over the elements that are not finite
// once encoded; a tile has fewer than 2^32 elements.
extern "C" __global__ void encode(const float* w, void* out, u32 dtype, u64 n, u64* bad) {
  for (u64 i = first(); i < n; i += stride()) {
    float value = w[i];
    u32 bits = __float_as_uint(value);
    bool lost;
    if (dtype == F32) {
      ((float*)out)[i] = value;
      lost = (bits & 0x7f800000u) == 0x7f800000u;
    } else if (dtype == F16) {
      u16 half = f32_to_f16(value);
      ((u16*)out)[i] = half;
      lost = (half & 0x7c00u) == 0x7c00u;
    } else {
      u16 half = f32_to_bf16(value);
      ((u16*)out)[i] = half;
      lost = (half & 0x7f80u) == 0x7f80u;
    }
    if (lost) atomicMin(bad, i << 32 | bits);
  }
}
