// Compositing of one tile and its backward pass: splat by splat, over the rows that the splat covers.
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

static size_t scratch_floats(int size_log2, int planes) {
    const int floats = size_log2 == 6   ? BestShape<64>::Plane
                       : size_log2 == 5 ? BestShape<32>::Plane
                                        : BestShape<16>::Plane;
    return (size_t)floats * planes + 64;
}

template <int W>
struct Row {
    typedef typename Lanes<W>::F F;
    typedef typename Lanes<W>::I I;
};

// The compositing rule for W pixels: from the exponent and the transmittance before to weight and T after.
template <int W>
struct Sample {
    typedef typename Lanes<W>::F F;
    typedef typename Lanes<W>::I I;
    F raw;      // opacity * exp, before the clamp
    F alpha;    // 0 where under alpha_min
    F weight;   // alpha * T, 0 where closed
    F after;    // T after the splat; negative = closed
    I closed;

    HS_INLINE Sample(F exponent, F T, float opacity, const Rules& rules) {
        const F zero = {};
        raw = opacity * exp2v<W>(exponent);
        alpha = vmin(raw, splat<W>(rules.alpha_max));
        alpha = alpha >= rules.alpha_min ? alpha : zero;
        F next = T - alpha * T;
        closed = next < rules.transmittance_min;
        weight = closed ? zero : alpha * T;
        after = closed ? (F)((I)T | (int32_t)0x80000000) : next;
    }
};

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

// What a splat brings to each plane: features, then depth.
HS_INLINE void splat_values(const TileArgs& args, const Splat& s, uint32_t id, int channels, float* values) {
    if (channels == 3 && args.channels == 3) {
        for (int k = 0; k < 3; k++) values[k] = s.rgb[k];
    } else {
        for (int k = 0; k < channels; k++) values[k] = args.features[(size_t)id * args.channels + k];
    }
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

// P planes: 3 = RGB, 4 = RGB + depth, 0 = any number, known at run time.
template <class S, int P>
static void forward_tile_t(const TileArgs& args, int tile, float* scratch) {
    typedef typename Lanes<S::W>::F F;
    constexpr int N = S::Plane;
    const int channels = P ? 3 : args.channels, planes = P ? P : args.channels + args.with_depth;
    const int left = tile % args.grid.columns * S::Size, top = tile / args.grid.columns * S::Size;
    const Rules rules = args.rules;
    float *T = scratch, *planes_at = scratch + N;

    for (int i = 0; i < N; i++) T[i] = i % S::Band < S::Size * S::R ? 1.f : -1.f;
    for (size_t i = 0; i < (size_t)planes * N; i++) planes_at[i] = 0.f;

    const Centers<S> centers;
    const uint32_t begin = args.tile_start[tile], end = args.tile_start[tile + 1];
    float small[4];
    float* values = P ? small : planes_at + (size_t)planes * N;

    for (uint32_t k = begin; k < end; k++) {
        if (((k - begin) & 255) == 255 && all_closed<S>(T)) break;
        if (k + 8 < end) __builtin_prefetch(&args.splats[(uint32_t)args.pairs[k + 8]]);
        const uint32_t id = (uint32_t)args.pairs[k];
        const Splat& s = args.splats[id];
        const Clip clip(s, left, top, S::Size);
        const float a = s.a, b = s.b, c = s.c, opacity = s.opacity;
        splat_values(args, s, id, channels, values);
        if (planes > channels) values[channels] = s.depth;
        const int first = clip.ya / S::R, last = clip.yb / S::R;

        for (int x = clip.xa; x <= clip.xb; x += S::Columns) {
            const F dx = centers.x + (x - clip.x), ax = dx * dx * a, bx = dx * b;
            float* at = T + first * S::Band + x * S::R;
            F dy = centers.y + (first * S::R - clip.y);
            for (int band = first; band <= last; band++, at += S::Band, dy += (float)S::R) {
                const F before = load<S::W>(at);
                if (!any_positive(before)) continue;
                const Sample<S::W> sample(ax + dy * (bx + dy * c), before, opacity, rules);
                store<S::W>(at, sample.after);
                if (P) {
                    for (int i = 0; i < P; i++) {
                        float* const plane = at + (i + 1) * N;
                        store<S::W>(plane, load<S::W>(plane) + sample.weight * values[i]);
                    }
                } else {
                    float* plane = at + N;
                    for (int i = 0; i < planes; i++, plane += N)
                        store<S::W>(plane, load<S::W>(plane) + sample.weight * values[i]);
                }
            }
        }
    }

    for (int y = 0; y < S::Size && top + y < args.view.height; y++) {
        const int width = args.view.width - left < S::Size ? args.view.width - left : S::Size;
        const size_t pixel = (size_t)(top + y) * args.view.width + left;
        for (int x = 0; x < width; x++) {
            const int q = S::at(x, y);
            const float t = magnitude(T[q]);
            float* out = args.image + (pixel + x) * channels;
            for (int i = 0; i < channels; i++) out[i] = planes_at[i * N + q] + t * args.background[i];
            args.alpha[pixel + x] = 1.f - t;
            if (planes > channels) args.depth[pixel + x] = planes_at[channels * N + q];
        }
    }
}

template <class S, int P>
static void backward_tile_t(const TileGradArgs& args, int tile_index, float* scratch) {
    typedef typename Lanes<S::W>::F F;
    typedef typename Lanes<S::W>::I I;
    constexpr int N = S::Plane;
    const TileArgs& tile = args.tile;
    const int channels = P ? 3 : tile.channels, planes = P ? P : tile.channels + tile.with_depth;
    const int left = tile_index % tile.grid.columns * S::Size, top = tile_index / tile.grid.columns * S::Size;
    const int log2 = tile.grid.size_log2;
    const Rules rules = tile.rules;
    // rest: what everything behind the current splat, background included, adds to the loss' linear form
    float *T = scratch, *rest = scratch + N, *grads = scratch + 2 * N;
    float* const background = args.background + (size_t)tile_index * channels;

    for (int i = 0; i < (2 + planes) * N; i++) scratch[i] = 0.f;
    for (int i = 0; i < N; i++) T[i] = -1.f;
    for (int i = 0; i < channels; i++) background[i] = 0.f;
    for (int y = 0; y < S::Size && top + y < tile.view.height; y++) {
        for (int x = 0; x < S::Size && left + x < tile.view.width; x++) {
            const size_t pixel = (size_t)(top + y) * tile.view.width + left + x;
            const int q = S::at(x, y);
            const float clear = 1.f - tile.alpha[pixel];
            float total = 0;
            for (int i = 0; i < channels; i++) {
                const float g = args.grad_image[pixel * channels + i];
                grads[i * N + q] = g;
                total += g * tile.image[pixel * channels + i];
                background[i] += g * clear;
            }
            if (planes > channels) {
                const float g = args.grad_depth ? args.grad_depth[pixel] : 0.f;
                grads[channels * N + q] = g;
                total += g * tile.depth[pixel];
            }
            if (args.grad_alpha) total -= args.grad_alpha[pixel] * clear;
            rest[q] = total;
            T[q] = 1.f;
        }
    }

    const Centers<S> centers;
    const uint32_t begin = tile.tile_start[tile_index], end = tile.tile_start[tile_index + 1];
    float small[4];
    float* values = P ? small : grads + (size_t)planes * N;
    F few[4];
    F* value_sums = P ? few : reinterpret_cast<F*>(values + (planes + 15) / 16 * 16);

    for (uint32_t k = begin; k < end; k++) {
        if (k + 8 < end) __builtin_prefetch(&tile.splats[(uint32_t)tile.pairs[k + 8]]);
        const uint32_t id = (uint32_t)tile.pairs[k];
        const Splat& s = tile.splats[id];
        const Clip clip(s, left, top, S::Size);
        const float a = s.a, b = s.b, c = s.c, opacity = s.opacity;
        splat_values(tile, s, id, channels, values);
        if (planes > channels) values[channels] = s.depth;
        const int first = clip.ya / S::R, last = clip.yb / S::R;

        const F zero = {};
        F m0 = zero, mx = zero, my = zero, mxx = zero, mxy = zero, myy = zero;
        for (int i = 0; i < planes; i++) value_sums[i] = zero;
        for (int x = clip.xa; x <= clip.xb; x += S::Columns) {
            const F dx = centers.x + (x - clip.x), ax = dx * dx * a, bx = dx * b;
            F c0 = zero, c1 = zero, c2 = zero;  // moments in y of this column of vectors
            float* at = T + first * S::Band + x * S::R;
            F dy = centers.y + (first * S::R - clip.y);
            for (int band = first; band <= last; band++, at += S::Band, dy += (float)S::R) {
                const F before = load<S::W>(at);
                if (!any_positive(before)) continue;
                const Sample<S::W> sample(ax + dy * (bx + dy * c), before, opacity, rules);
                store<S::W>(at, sample.after);
                F along = zero;
                if (P) {
                    for (int i = 0; i < P; i++) {
                        const F g = load<S::W>(at + (2 + i) * N);
                        along += g * values[i];
                        value_sums[i] += g * sample.weight;
                    }
                } else {
                    const float* plane = at + 2 * N;
                    for (int i = 0; i < planes; i++, plane += N) {
                        const F g = load<S::W>(plane);
                        along += g * values[i];
                        value_sums[i] += g * sample.weight;
                    }
                }
                const F behind = load<S::W>(at + N) - sample.weight * along;
                store<S::W>(at + N, behind);
                const F grad_alpha = before * along - behind / (1.f - sample.alpha);
                const I smooth = (I)(sample.alpha > 0.f) & (I)(sample.raw < rules.alpha_max) & ~sample.closed;
                const F e = smooth ? sample.alpha * grad_alpha : zero;  // dL/d(natural exponent)
                const F ey = e * dy;
                c0 += e;
                c1 += ey;
                c2 += ey * dy;
            }
            const F cx = c0 * dx;
            m0 += c0;
            my += c1;
            myy += c2;
            mx += cx;
            mxx += cx * dx;
            mxy += c1 * dx;
        }
        const int tx0 = s.x0 >> log2, tx1 = s.x1 >> log2, ty0 = s.y0 >> log2;
        const uint32_t pair = args.chunk_base[id / args.chunk_size] + args.pair_base[id] +
                              ((top >> log2) - ty0) * (tx1 - tx0 + 1) + ((left >> log2) - tx0);
        float* record = args.records + (size_t)pair * args.record_size;
        record[0] = sum(m0);
        record[1] = sum(mx);
        record[2] = sum(my);
        record[3] = sum(mxx);
        record[4] = sum(mxy);
        record[5] = sum(myy);
        for (int i = 0; i < planes; i++) record[kMoments + i] = sum(value_sums[i]);
    }
}

static void forward_tile(const TileArgs& args, int tile, float* scratch) {
    const int log2 = args.grid.size_log2;
    if (log2 == 6 && args.channels == 3)
        args.with_depth ? forward_tile_t<BestShape<64>, 4>(args, tile, scratch)
                        : forward_tile_t<BestShape<64>, 3>(args, tile, scratch);
    else if (log2 == 6)
        forward_tile_t<BestShape<64>, 0>(args, tile, scratch);
    else if (log2 == 5)
        forward_tile_t<BestShape<32>, 0>(args, tile, scratch);
    else
        forward_tile_t<BestShape<16>, 0>(args, tile, scratch);
}

static void backward_tile(const TileGradArgs& args, int tile, float* scratch) {
    const int log2 = args.tile.grid.size_log2;
    if (log2 == 6 && args.tile.channels == 3)
        args.tile.with_depth ? backward_tile_t<BestShape<64>, 4>(args, tile, scratch)
                             : backward_tile_t<BestShape<64>, 3>(args, tile, scratch);
    else if (log2 == 6)
        backward_tile_t<BestShape<64>, 0>(args, tile, scratch);
    else if (log2 == 5)
        backward_tile_t<BestShape<32>, 0>(args, tile, scratch);
    else
        backward_tile_t<BestShape<16>, 0>(args, tile, scratch);
}
