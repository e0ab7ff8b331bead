// Vectors of W floats on GCC/Clang vector extensions, with intrinsics only where the extensions have no word.
#pragma once

// Included inside a namespace: isa.cpp has already included the system's headers.

#define HS_INLINE inline __attribute__((always_inline))

template <int W>
struct Lanes {
    typedef float F __attribute__((vector_size(W * 4)));
    typedef int32_t I __attribute__((vector_size(W * 4)));
    typedef float Unaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));
};

#if defined(__AVX512F__)
constexpr int kWidth = 16;  // for work on whole arrays
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

template <int W>
HS_INLINE typename Lanes<W>::F load(const float* p) {
    return *reinterpret_cast<const typename Lanes<W>::Unaligned*>(p);
}
template <int W>
HS_INLINE void store(float* p, typename Lanes<W>::F v) {
    *reinterpret_cast<typename Lanes<W>::Unaligned*>(p) = v;
}
// any_positive(v): whether a sign bit is clear.
template <int W>
HS_INLINE typename Lanes<W>::F splat(float x) {
    return x - typename Lanes<W>::F{};
}

typedef Lanes<4>::F F4;
typedef Lanes<4>::I I4;
#if defined(__SSE2__)
HS_INLINE F4 vmin(F4 a, F4 b) { return (F4)_mm_min_ps((__m128)a, (__m128)b); }
HS_INLINE F4 vmax(F4 a, F4 b) { return (F4)_mm_max_ps((__m128)a, (__m128)b); }
HS_INLINE F4 vsqrt(F4 a) { return (F4)_mm_sqrt_ps((__m128)a); }
HS_INLINE bool any_positive(F4 v) { return _mm_movemask_ps((__m128)v) != 0xf; }
HS_INLINE float sum(F4 v) {
    __m128 a = (__m128)v;
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}
#elif defined(__aarch64__)
HS_INLINE F4 vmin(F4 a, F4 b) { return (F4)vminq_f32((float32x4_t)a, (float32x4_t)b); }
HS_INLINE F4 vmax(F4 a, F4 b) { return (F4)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
HS_INLINE F4 vsqrt(F4 a) { return (F4)vsqrtq_f32((float32x4_t)a); }
HS_INLINE bool any_positive(F4 v) { return vminvq_u32((uint32x4_t)v) < 0x80000000u; }
HS_INLINE float sum(F4 v) { return vaddvq_f32((float32x4_t)v); }
#else
HS_INLINE F4 vmin(F4 a, F4 b) { return a < b ? a : b; }
HS_INLINE F4 vmax(F4 a, F4 b) { return a > b ? a : b; }
HS_INLINE F4 vsqrt(F4 a) {
    for (int i = 0; i < 4; i++) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
HS_INLINE bool any_positive(F4 v) { return v[0] >= 0 || v[1] >= 0 || v[2] >= 0 || v[3] >= 0; }
HS_INLINE float sum(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#endif

#if defined(__AVX2__)
typedef Lanes<8>::F F8;
typedef Lanes<8>::I I8;
HS_INLINE F8 vmin(F8 a, F8 b) { return (F8)_mm256_min_ps((__m256)a, (__m256)b); }
HS_INLINE F8 vmax(F8 a, F8 b) { return (F8)_mm256_max_ps((__m256)a, (__m256)b); }
HS_INLINE F8 vsqrt(F8 a) { return (F8)_mm256_sqrt_ps((__m256)a); }
HS_INLINE bool any_positive(F8 v) { return _mm256_movemask_ps((__m256)v) != 0xff; }
HS_INLINE float sum(F8 v) {
    return sum((F4)_mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1)));
}
#endif

// Stand-ins where there is no such instruction; never called.
template <class V>
HS_INLINE V round_even(V v) {
    return v;
}
template <class V>
HS_INLINE V scale_by_power(V v, V) {
    return v;
}

#if defined(__AVX512F__)
typedef Lanes<16>::F F16;
typedef Lanes<16>::I I16;
HS_INLINE F16 vmin(F16 a, F16 b) { return (F16)_mm512_min_ps((__m512)a, (__m512)b); }
HS_INLINE F16 vmax(F16 a, F16 b) { return (F16)_mm512_max_ps((__m512)a, (__m512)b); }
HS_INLINE F16 vsqrt(F16 a) { return (F16)_mm512_sqrt_ps((__m512)a); }
HS_INLINE bool any_positive(F16 v) { return _mm512_movepi32_mask((__m512i)v) != 0xffff; }
HS_INLINE F16 round_even(F16 v) { return (F16)_mm512_roundscale_ps((__m512)v, 0); }
HS_INLINE F16 scale_by_power(F16 v, F16 n) { return (F16)_mm512_scalef_ps((__m512)v, (__m512)n); }
HS_INLINE float sum(F16 v) {
    return sum((F8)_mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1)));
}
#endif

constexpr float kLog2e = 1.44269504f;

typedef Lanes<kWidth>::F Fv;
typedef Lanes<kWidth>::I Iv;

// 2^x for x <= 127; relative error 1e-7 down to 2^-126, at most 2^-126 below.
template <int W>
HS_INLINE typename Lanes<W>::F exp2v(typename Lanes<W>::F x) {
    typedef typename Lanes<W>::F F;
    typedef typename Lanes<W>::I I;
#if defined(__AVX512F__)
    const bool has_scalef = W == 16;
#else
    const bool has_scalef = false;
#endif
    const F magic = splat<W>(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    F shifted, rounded;
    if (has_scalef) {
        rounded = round_even(x);
    } else {
        x = vmax(x, splat<W>(-126.f));
        shifted = x + magic;
        rounded = shifted - magic;
    }
    F f = x - rounded;
    F f2 = f * f;
    F low = f * 0.69314697f + 1.00000007f;
    F mid = f * 0.05550713f + 0.2402212f;
    F high = f * 0.00132765f + 0.00967554f;
    F p = (high * f2 + mid) * f2 + low;
    if (has_scalef) return scale_by_power(p, rounded);
    return (F)((I)p + ((I)shifted << 23));
}

// log2(x) for normal x > 0; absolute error 1e-4, for bounds only.
template <int W>
HS_INLINE typename Lanes<W>::F log2_rough(typename Lanes<W>::F x) {
    typedef typename Lanes<W>::F F;
    typedef typename Lanes<W>::I I;
    I bits = (I)x;
    F e = __builtin_convertvector((bits >> 23) - 127, F);
    F m = (F)((bits & 0x007fffff) | 0x3f800000);
    return e - 2.51285427f + m * (4.07008978f + m * (-2.12067407f + m * (0.64514188f - 0.08161573f * m)));
}

// Four half floats, finite ones exactly.
HS_INLINE F4 half4(const uint16_t* p) {
#if defined(__F16C__)
    return (F4)_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
    I4 h = {p[0], p[1], p[2], p[3]};
    F4 size = (F4)((h & 0x7fff) << 13) * 0x1p112f;  // moves the exponent from bias 15 to 127
    return (F4)((I4)size | ((h & 0x8000) << 16));
#endif
}
