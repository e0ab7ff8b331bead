// Pixels in vectors: how a tile lays them out, and what one splat does to W of them.
//
// A vector of W pixels is W / R columns by R rows. A tile keeps its pixels in planes: bands of R rows, in a band
// column after column. Behind the last column of a band there is room for one more vector, closed for good, so that
// a vector may start at any column. A negative transmittance marks a closed pixel; its size stays the pixel's own.
#pragma once

#include "simd.h"
#include "types.h"

template <int W_, int R_, int Size_>
struct Shape {
    static constexpr int W = W_, R = R_, Size = Size_;
    static constexpr int Columns = W / R;               // of one vector
    static constexpr int Band = (Size + Columns) * R;   // floats from one band of rows to the next
    static constexpr int Plane = Band * (Size / R);
    static constexpr int at(int x, int y) { return y / R * Band + x * R + y % R; }
};

#if defined(__AVX512F__)
template <int Size>
using BestShape = Shape<16, 2, Size>;  // 8 x 2: small splats waste fewer lanes than with 16 x 1
#elif defined(__AVX2__)
template <int Size>
using BestShape = Shape<8, 1, Size>;
#else
template <int Size>
using BestShape = Shape<4, 1, Size>;
#endif

// The rules as vectors.
template <int W>
struct RuleLanes {
    typename Lanes<W>::F alpha_max, alpha_min, transmittance_min;
    HS_INLINE explicit RuleLanes(const Rules& r)
        : alpha_max(kept(splat<W>(r.alpha_max))),
          alpha_min(kept(splat<W>(r.alpha_min))),
          transmittance_min(kept(splat<W>(r.transmittance_min))) {}
};

// The compositing rule for W pixels: from the exponent and the transmittance before to weight and T after.
template <int W>
struct Sample {
    typedef typename Lanes<W>::F F;
    typedef typename Lanes<W>::I I;
    F alpha;    // where `drawn`
    F weight;   // alpha * T, 0 where not drawn
    F after;    // T after the splat; negative = closed
    I drawn;    // alpha >= alpha_min, and the pixel stays open
    I clamped;  // at alpha_max

    HS_INLINE Sample(F exponent, F T, F opacity, const RuleLanes<W>& rules) {
        const F zero = {}, raw = opacity * exp2v<W>(exponent);
        clamped = raw >= rules.alpha_max;
        alpha = vmin(raw, rules.alpha_max);
        const I seen = alpha >= rules.alpha_min;
        alpha = seen ? alpha : zero;
        const F next = T - alpha * T;
        const I closed = next < rules.transmittance_min;
        drawn = seen & ~closed;
        weight = closed ? zero : alpha * T;
        after = closed ? (F)((I)T | (int32_t)0x80000000) : next;
    }
    HS_INLINE F where_smooth(F v) const { return drawn & ~clamped ? v : F{}; }
    HS_INLINE unsigned drawn_bits() const { return sign_bits((F)drawn); }
};

#if defined(__AVX512F__)
template <>
struct Sample<16> {
    F16 alpha, weight, after;
    __mmask16 drawn, clamped;

    HS_INLINE Sample(F16 exponent, F16 T, F16 opacity, const RuleLanes<16>& rules) {
        const __m512 t = (__m512)T, raw = (__m512)(opacity * exp2v<16>(exponent));
        clamped = _mm512_cmp_ps_mask(raw, (__m512)rules.alpha_max, _CMP_GE_OQ);
        const __mmask16 seen = _mm512_cmp_ps_mask(raw, (__m512)rules.alpha_min, _CMP_GE_OQ);
        const __m512 a = _mm512_min_ps(raw, (__m512)rules.alpha_max);
        const __m512 next = _mm512_mask3_fnmadd_ps(a, t, t, seen);
        const __mmask16 closed = _mm512_mask_cmp_ps_mask(seen, next, (__m512)rules.transmittance_min, _CMP_LT_OQ);
        drawn = _kandn_mask16(closed, seen);
        alpha = (F16)a;
        weight = (F16)_mm512_maskz_mul_ps(drawn, a, t);
        after = (F16)_mm512_mask_or_ps(next, closed, t, _mm512_set1_ps(-0.f));
    }
    HS_INLINE unsigned drawn_bits() const { return drawn; }
    HS_INLINE F16 where_smooth(F16 v) const {
        return (F16)_mm512_maskz_mov_ps(_kandn_mask16(clamped, drawn), (__m512)v);
    }
};
#endif

// A splat clipped to a tile, in the tile's coordinates.
struct Clip {
    int xa, xb, ya, yb;
    float x, y;
    HS_INLINE Clip(const Splat& s, int left, int top, int size) {
        xa = s.x0 > left ? s.x0 - left : 0;
        ya = s.y0 > top ? s.y0 - top : 0;
        xb = s.x1 - left < size ? s.x1 - left : size - 1;
        yb = s.y1 - top < size ? s.y1 - top : size - 1;
        x = s.x - left;
        y = s.y - top;
    }
};

HS_INLINE float magnitude(float x) { return x < 0 ? -x : x; }

template <class S>
static bool all_closed(const float* T) {
    for (int i = 0; i < S::Plane; i += S::W)
        if (any_positive(load<S::W>(T + i))) return false;
    return true;
}

// Column and row of each lane's pixel centre.
template <class S>
struct Centers {
    typename Lanes<S::W>::F x, y;
    HS_INLINE Centers() {
        for (int i = 0; i < S::W; i++) {
            x[i] = i / S::R + 0.5f;
            y[i] = i % S::R + 0.5f;
        }
    }
};
