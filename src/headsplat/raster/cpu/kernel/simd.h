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
HS_INLINE unsigned sign_bits(F4 v) { return _mm_movemask_ps((__m128)v); }
HS_INLINE float sum(F4 v) {
    __m128 a = (__m128)v;
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}
#elif defined(__aarch64__)
HS_INLINE F4 vmin(F4 a, F4 b) { return (F4)vminq_f32((float32x4_t)a, (float32x4_t)b); }
HS_INLINE F4 vmax(F4 a, F4 b) { return (F4)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
HS_INLINE F4 vsqrt(F4 a) { return (F4)vsqrtq_f32((float32x4_t)a); }
HS_INLINE float sum(F4 v) { return vaddvq_f32((float32x4_t)v); }
#else
HS_INLINE F4 vmin(F4 a, F4 b) { return a < b ? a : b; }
HS_INLINE F4 vmax(F4 a, F4 b) { return a > b ? a : b; }
HS_INLINE F4 vsqrt(F4 a) {
    for (int i = 0; i < 4; i++) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
HS_INLINE float sum(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#endif

#if !defined(__SSE2__)
HS_INLINE unsigned sign_bits(F4 v) {
    const I4 s = (I4)v >> 31;
    return (s[0] & 1) | (s[1] & 2) | (s[2] & 4) | (s[3] & 8);
}
#endif

#if defined(__AVX2__)
typedef Lanes<8>::F F8;
typedef Lanes<8>::I I8;
HS_INLINE F8 vmin(F8 a, F8 b) { return (F8)_mm256_min_ps((__m256)a, (__m256)b); }
HS_INLINE F8 vmax(F8 a, F8 b) { return (F8)_mm256_max_ps((__m256)a, (__m256)b); }
HS_INLINE F8 vsqrt(F8 a) { return (F8)_mm256_sqrt_ps((__m256)a); }
HS_INLINE unsigned sign_bits(F8 v) { return _mm256_movemask_ps((__m256)v); }
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
HS_INLINE unsigned sign_bits(F16 v) { return _mm512_movepi32_mask((__m512i)v); }
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

// 1 / x for normal x, within 2 units in the last place.
#if defined(__AVX512F__)
HS_INLINE F16 reciprocal(F16 x) {
    const F16 r = (F16)_mm512_rcp14_ps((__m512)x);
    return r * (2.f - x * r);
}
#endif
#if defined(__AVX2__)
HS_INLINE F8 reciprocal(F8 x) {
    const F8 r = (F8)_mm256_rcp_ps((__m256)x);
    return r * (2.f - x * r);
}
#endif
HS_INLINE F4 reciprocal(F4 x) { return 1.f / x; }

// Stores the sum of the lanes of each of `count` vectors.
HS_INLINE void store_sums(const F4* v, int count, float* out) {
    for (int i = 0; i < count; i++) out[i] = sum(v[i]);
}
#if defined(__AVX2__)
// Eight sums at once by adding transposed halves.
HS_INLINE void store_eight_sums(F8 v0, F8 v1, F8 v2, F8 v3, F8 v4, F8 v5, F8 v6, F8 v7, float* out) {
    const auto halves = [](F8 a, F8 b) {
        return _mm256_add_ps(_mm256_permute2f128_ps((__m256)a, (__m256)b, 0x20),
                             _mm256_permute2f128_ps((__m256)a, (__m256)b, 0x31));
    };
    const auto pairs = [](__m256 a, __m256 b) {
        return _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    };
    const __m256 a = halves(v0, v4), b = halves(v1, v5), c = halves(v2, v6), d = halves(v3, v7);
    _mm256_storeu_ps(out, pairs(pairs(a, c), pairs(b, d)));
}
HS_INLINE void store_sums(const F8* v, int count, float* out) {
    int i = 0;
    for (; i + 8 <= count; i += 8)
        store_eight_sums(v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4], v[i + 5], v[i + 6], v[i + 7], out + i);
    for (; i < count; i++) out[i] = sum(v[i]);
}
#endif
#if defined(__AVX512F__)
HS_INLINE F8 fold(F16 v) {
    return (F8)_mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
}
HS_INLINE void store_sums(const F16* v, int count, float* out) {
    int i = 0;
    for (; i + 8 <= count; i += 8)
        store_eight_sums(fold(v[i]), fold(v[i + 1]), fold(v[i + 2]), fold(v[i + 3]), fold(v[i + 4]), fold(v[i + 5]),
                         fold(v[i + 6]), fold(v[i + 7]), out + i);
    for (; i < count; i++) out[i] = sum(v[i]);
}
#endif

// Turns four vectors into the vectors of their first, second, third and fourth lanes.
HS_INLINE void transpose4(F4& a, F4& b, F4& c, F4& d) {
#if defined(__SSE2__)
    __m128 r0 = (__m128)a, r1 = (__m128)b, r2 = (__m128)c, r3 = (__m128)d;
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    a = (F4)r0;
    b = (F4)r1;
    c = (F4)r2;
    d = (F4)r3;
#else
    const F4 r0 = {a[0], b[0], c[0], d[0]}, r1 = {a[1], b[1], c[1], d[1]}, r2 = {a[2], b[2], c[2], d[2]},
             r3 = {a[3], b[3], c[3], d[3]};
    a = r0;
    b = r1;
    c = r2;
    d = r3;
#endif
}

// Whether the sign bit of a lane is clear.
template <class V>
HS_INLINE bool any_positive(V v) {
    return sign_bits(v) != (1u << (sizeof(V) / 4)) - 1;
}

// A value that the compiler must keep in a vector register instead of broadcasting it again and again.
template <class V>
HS_INLINE V kept(V v) {
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#endif
    return v;
}
