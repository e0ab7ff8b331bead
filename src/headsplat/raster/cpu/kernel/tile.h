// Compositing of one tile and its backward pass: splat by splat, W pixels of a splat's own rows at a time.
//
// A tile keeps its pixels in planes of TS rows with TS + W columns; the columns past TS are closed padding, so
// that a vector may start anywhere. A negative transmittance marks a closed pixel; its size stays the pixel's own.
#pragma once

#include "simd.h"
#include "types.h"

constexpr int kWidestVector = 16;

static size_t scratch_floats(int size_log2, int planes) {
    const size_t size = (size_t)1 << size_log2;
    return size * (size + kWidestVector) * planes + 64;
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

template <int W, int TS>
static bool all_closed(const float* T) {
    typename Lanes<W>::I open = {};
    for (int y = 0; y < TS; y++)
        for (int x = 0; x < TS; x += W) open |= load<W>(T + y * (TS + W) + x) > 0.f;
    return !any(open);
}

// What a splat brings to each plane: features, then depth.
HS_INLINE void splat_values(const TileArgs& args, const Splat& s, uint32_t id, int channels, float* values) {
    if (channels == 3 && args.channels == 3) {
        for (int k = 0; k < 3; k++) values[k] = s.rgb[k];
    } else {
        for (int k = 0; k < channels; k++) values[k] = args.features[(size_t)id * args.channels + k];
    }
}

// P planes: 3 = RGB, 4 = RGB + depth, 0 = any number, known at run time.
template <int W, int TS, int P>
static void forward_tile_t(const TileArgs& args, int tile, float* scratch) {
    typedef typename Lanes<W>::F F;
    typedef typename Lanes<W>::I I;
    constexpr int S = TS + W, N = TS * S;
    const int channels = P ? 3 : args.channels, planes = P ? P : args.channels + args.with_depth;
    const int left = tile % args.grid.columns * TS, top = tile / args.grid.columns * TS;
    const Rules rules = args.rules;
    float *T = scratch, *planes_at = scratch + N;

    for (int y = 0; y < TS; y++) {
        for (int x = 0; x < TS; x++) T[y * S + x] = 1.f;
        for (int x = TS; x < S; x++) T[y * S + x] = -1.f;
    }
    for (size_t i = 0; i < (size_t)planes * N; i++) planes_at[i] = 0.f;

    F columns;
    for (int i = 0; i < W; i++) columns[i] = i + 0.5f;
    const uint32_t begin = args.tile_start[tile], end = args.tile_start[tile + 1];
    float small[4];
    float* values = P ? small : planes_at + (size_t)planes * N;

    for (uint32_t k = begin; k < end; k++) {
        if (((k - begin) & 255) == 255 && all_closed<W, TS>(T)) break;
        if (k + 8 < end) __builtin_prefetch(&args.splats[(uint32_t)args.pairs[k + 8]]);
        const uint32_t id = (uint32_t)args.pairs[k];
        const Splat& s = args.splats[id];
        const Clip clip(s, left, top, TS);
        const float a = s.a, b = s.b, c = s.c, opacity = s.opacity;
        splat_values(args, s, id, channels, values);
        if (planes > channels) values[channels] = s.depth;

        for (int x = clip.xa; x <= clip.xb; x += W) {
            const F dx = columns + (x - clip.x), ax = dx * dx * a, bx = dx * b;
            float* row = T + clip.ya * S + x;
            for (int y = clip.ya; y <= clip.yb; y++, row += S) {
                const F before = load<W>(row);
                if (!any((I)(before > 0.f))) continue;
                const F dy = splat<W>(y + 0.5f - clip.y);
                const Sample<W> sample(ax + dy * (bx + dy * c), before, opacity, rules);
                store<W>(row, sample.after);
                if (P) {
                    for (int i = 0; i < P; i++)
                        store<W>(row + (i + 1) * N, load<W>(row + (i + 1) * N) + sample.weight * values[i]);
                } else {
                    float* plane = row + N;
                    for (int i = 0; i < planes; i++, plane += N)
                        store<W>(plane, load<W>(plane) + sample.weight * values[i]);
                }
            }
        }
    }

    for (int y = 0; y < TS && top + y < args.view.height; y++) {
        const int width = args.view.width - left < TS ? args.view.width - left : TS;
        const size_t pixel = (size_t)(top + y) * args.view.width + left;
        for (int x = 0; x < width; x++) {
            const float t = magnitude(T[y * S + x]);
            float* out = args.image + (pixel + x) * channels;
            for (int i = 0; i < channels; i++) out[i] = planes_at[i * N + y * S + x] + t * args.background[i];
            args.alpha[pixel + x] = 1.f - t;
            if (planes > channels) args.depth[pixel + x] = planes_at[channels * N + y * S + x];
        }
    }
}

template <int W, int TS, int P>
static void backward_tile_t(const TileGradArgs& args, int tile_index, float* scratch) {
    typedef typename Lanes<W>::F F;
    typedef typename Lanes<W>::I I;
    constexpr int S = TS + W, N = TS * S;
    const TileArgs& tile = args.tile;
    const int channels = P ? 3 : tile.channels, planes = P ? P : tile.channels + tile.with_depth;
    const int left = tile_index % tile.grid.columns * TS, top = tile_index / tile.grid.columns * TS;
    const int log2 = tile.grid.size_log2;
    const Rules rules = tile.rules;
    // rest: what everything behind the current splat, background included, adds to the loss' linear form
    float *T = scratch, *rest = scratch + N, *grads = scratch + 2 * N;

    for (int i = 0; i < (2 + planes) * N; i++) scratch[i] = 0.f;
    for (int i = 0; i < N; i++) T[i] = -1.f;
    for (int y = 0; y < TS && top + y < tile.view.height; y++) {
        for (int x = 0; x < TS && left + x < tile.view.width; x++) {
            const size_t pixel = (size_t)(top + y) * tile.view.width + left + x;
            const int q = y * S + x;
            float total = 0;
            for (int i = 0; i < channels; i++) {
                const float g = args.grad_image[pixel * channels + i];
                grads[i * N + q] = g;
                total += g * tile.image[pixel * channels + i];
            }
            if (planes > channels) {
                const float g = args.grad_depth ? args.grad_depth[pixel] : 0.f;
                grads[channels * N + q] = g;
                total += g * tile.depth[pixel];
            }
            if (args.grad_alpha) total -= args.grad_alpha[pixel] * (1.f - tile.alpha[pixel]);
            rest[q] = total;
            T[q] = 1.f;
        }
    }

    F columns;
    for (int i = 0; i < W; i++) columns[i] = i + 0.5f;
    const uint32_t begin = tile.tile_start[tile_index], end = tile.tile_start[tile_index + 1];
    float small[4];
    float* values = P ? small : grads + (size_t)planes * N;
    F few[4];
    F* value_sums = P ? few : reinterpret_cast<F*>(values + (planes + 15) / 16 * 16);

    for (uint32_t k = begin; k < end; k++) {
        if (k + 8 < end) __builtin_prefetch(&tile.splats[(uint32_t)tile.pairs[k + 8]]);
        const uint32_t id = (uint32_t)tile.pairs[k];
        const Splat& s = tile.splats[id];
        const Clip clip(s, left, top, TS);
        const float a = s.a, b = s.b, c = s.c, opacity = s.opacity;
        splat_values(tile, s, id, channels, values);
        if (planes > channels) values[channels] = s.depth;

        const F zero = {};
        F m0 = zero, mx = zero, my = zero, mxx = zero, mxy = zero, myy = zero;
        for (int i = 0; i < planes; i++) value_sums[i] = zero;
        for (int x = clip.xa; x <= clip.xb; x += W) {
            const F dx = columns + (x - clip.x), ax = dx * dx * a, bx = dx * b;
            F c0 = zero, c1 = zero, c2 = zero;  // moments in y of this column of vectors
            float* row = T + clip.ya * S + x;
            for (int y = clip.ya; y <= clip.yb; y++, row += S) {
                const F before = load<W>(row);
                if (!any((I)(before > 0.f))) continue;
                const F dy = splat<W>(y + 0.5f - clip.y);
                const Sample<W> sample(ax + dy * (bx + dy * c), before, opacity, rules);
                store<W>(row, sample.after);
                F along = zero;
                if (P) {
                    for (int i = 0; i < P; i++) {
                        const F g = load<W>(row + (2 + i) * N);
                        along += g * values[i];
                        value_sums[i] += g * sample.weight;
                    }
                } else {
                    const float* plane = row + 2 * N;
                    for (int i = 0; i < planes; i++, plane += N) {
                        const F g = load<W>(plane);
                        along += g * values[i];
                        value_sums[i] += g * sample.weight;
                    }
                }
                const F behind = load<W>(row + N) - sample.weight * along;
                store<W>(row + N, behind);
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

#if defined(__AVX2__)
constexpr int kRow = 8;  // wider vectors mostly hang over the edge of small splats
#else
constexpr int kRow = 4;
#endif

static void forward_tile(const TileArgs& args, int tile, float* scratch) {
    const bool rgb = args.channels == 3 && args.grid.size_log2 == 6;
    if (rgb && !args.with_depth) return forward_tile_t<kRow, 64, 3>(args, tile, scratch);
    if (rgb) return forward_tile_t<kRow, 64, 4>(args, tile, scratch);
    if (args.grid.size_log2 == 6) return forward_tile_t<kRow, 64, 0>(args, tile, scratch);
    if (args.grid.size_log2 == 5) return forward_tile_t<kRow, 32, 0>(args, tile, scratch);
    return forward_tile_t<kRow, 16, 0>(args, tile, scratch);
}

static void backward_tile(const TileGradArgs& args, int tile, float* scratch) {
    const bool rgb = args.tile.channels == 3 && args.tile.grid.size_log2 == 6;
    if (rgb && !args.tile.with_depth) return backward_tile_t<kRow, 64, 3>(args, tile, scratch);
    if (rgb) return backward_tile_t<kRow, 64, 4>(args, tile, scratch);
    if (args.tile.grid.size_log2 == 6) return backward_tile_t<kRow, 64, 0>(args, tile, scratch);
    if (args.tile.grid.size_log2 == 5) return backward_tile_t<kRow, 32, 0>(args, tile, scratch);
    return backward_tile_t<kRow, 16, 0>(args, tile, scratch);
}
