// Compositing of one tile of RGB, and its backward pass: splat by splat, over the rows that the splat covers.
#pragma once

#include "channels.h"
#include "sample.h"
#include "simd.h"
#include "types.h"

// A tile that no splat touches: the first row, then copies of it.
static void empty_rgb_tile(const TileArgs& args, int left, int top, int size) {
    const int width = args.view.width - left < size ? args.view.width - left : size;
    const float* first = nullptr;
    for (int y = top; y < top + size && y < args.view.height; y++) {
        const size_t pixel = (size_t)y * args.view.width + left;
        float* const image = args.image + 3 * pixel;
        if (first)
            __builtin_memcpy(image, first, 3 * width * sizeof(float));
        else
            for (int i = 0; i < 3 * width; i++) image[i] = args.background[i % 3];
        first = image;
        __builtin_memset(args.alpha + pixel, 0, width * sizeof(float));
        if (args.with_depth) __builtin_memset(args.depth + pixel, 0, width * sizeof(float));
    }
}

// P planes: 3 = RGB, 4 = RGB + depth.
template <class S, int P>
static void forward_tile_t(const TileArgs& args, int tile, float* scratch) {
    typedef typename Lanes<S::W>::F F;
    constexpr int N = S::Plane;
    const int left = tile % args.grid.columns * S::Size, top = tile / args.grid.columns * S::Size;
    const RuleLanes<S::W> rules(args.rules);
    float *T = scratch, *planes_at = scratch + N;
    const uint32_t begin = args.tile_start[tile], end = args.tile_start[tile + 1];
    if (begin == end) return empty_rgb_tile(args, left, top, S::Size);

    for (int i = 0; i < N; i++) T[i] = i % S::Band < S::Size * S::R ? 1.f : -1.f;
    for (int i = 0; i < P * N; i++) planes_at[i] = 0.f;

    const Centers<S> centers;

    for (uint32_t k = begin; k < end; k++) {
        if (((k - begin) & 255) == 255 && all_closed<S>(T)) break;
        if (k + 8 < end) __builtin_prefetch(&args.splats[(uint32_t)args.pairs[k + 8]]);
        const uint32_t id = (uint32_t)args.pairs[k];
        const Splat& s = args.splats[id];
        const Clip clip(s, left, top, S::Size);
        const F c = kept(splat<S::W>(s.c)), opacity = kept(splat<S::W>(s.opacity));
        F value[P];
        for (int i = 0; i < P; i++) value[i] = kept(splat<S::W>(i < 3 ? s.rgb[i] : s.depth));
        const int first = clip.ya / S::R, last = clip.yb / S::R;

        for (int x = clip.xa; x <= clip.xb; x += S::Columns) {
            const F dx = centers.x + (x - clip.x), ax = dx * dx * s.a, bx = dx * s.b;
            float* at = T + first * S::Band + x * S::R;
            F dy = centers.y + (first * S::R - clip.y);
            for (int band = first; band <= last; band++, at += S::Band, dy += (float)S::R) {
                const F before = load<S::W>(at);
                if (!any_positive(before)) continue;
                const Sample<S::W> sample(ax + dy * (bx + dy * c), before, opacity, rules);
                store<S::W>(at, sample.after);
                for (int i = 0; i < P; i++) {
                    float* const plane = at + (i + 1) * N;
                    store<S::W>(plane, load<S::W>(plane) + sample.weight * value[i]);
                }
            }
        }
    }

    const int width = args.view.width - left < S::Size ? args.view.width - left : S::Size;
    const float b0 = args.background[0], b1 = args.background[1], b2 = args.background[2];
    for (int y = 0; y < S::Size && top + y < args.view.height; y++) {
        const size_t pixel = (size_t)(top + y) * args.view.width + left;
        const float* __restrict from = T + S::at(0, y);
        float* __restrict image = args.image + 3 * pixel;
        float* __restrict alpha = args.alpha + pixel;
        for (int x = 0; x < width; x++) {
            const float t = magnitude(from[x * S::R]);
            image[3 * x] = from[N + x * S::R] + t * b0;
            image[3 * x + 1] = from[2 * N + x * S::R] + t * b1;
            image[3 * x + 2] = from[3 * N + x * S::R] + t * b2;
            alpha[x] = 1.f - t;
        }
        if (P > 3)
            for (int x = 0; x < width; x++) args.depth[pixel + x] = from[P * N + x * S::R];
    }
}

template <class S, int P>
static void backward_tile_t(const TileGradArgs& args, int tile_index, float* scratch) {
    typedef typename Lanes<S::W>::F F;
    typedef typename Lanes<S::W>::I I;
    constexpr int N = S::Plane;
    const TileArgs& tile = args.tile;
    const int left = tile_index % tile.grid.columns * S::Size, top = tile_index / tile.grid.columns * S::Size;
    const int log2 = tile.grid.size_log2;
    const RuleLanes<S::W> rules(tile.rules);
    // rest: what everything behind the current splat, background included, adds to the loss' linear form
    float *T = scratch, *rest = scratch + N, *grads = scratch + 2 * N;
    float* const background = args.background + (size_t)tile_index * 3;
    const uint32_t begin = tile.tile_start[tile_index], end = tile.tile_start[tile_index + 1];
    if (begin == end) return empty_tile_backward(args, left, top, S::Size, background);

    for (int i = 0; i < (2 + P) * N; i++) scratch[i] = 0.f;
    for (int i = 0; i < N; i++) T[i] = -1.f;
    for (int i = 0; i < 3; i++) background[i] = 0.f;
    for (int y = 0; y < S::Size && top + y < tile.view.height; y++) {
        for (int x = 0; x < S::Size && left + x < tile.view.width; x++) {
            const size_t pixel = (size_t)(top + y) * tile.view.width + left + x;
            const int q = S::at(x, y);
            const float clear = 1.f - tile.alpha[pixel];
            float total = 0;
            for (int i = 0; i < 3; i++) {
                const float g = args.grad_image[pixel * 3 + i];
                grads[i * N + q] = g;
                total += g * tile.image[pixel * 3 + i];
                background[i] += g * clear;
            }
            if (P > 3) {
                const float g = args.grad_depth ? args.grad_depth[pixel] : 0.f;
                grads[3 * N + q] = g;
                total += g * tile.depth[pixel];
            }
            if (args.grad_alpha) total -= args.grad_alpha[pixel] * clear;
            rest[q] = total;
            T[q] = 1.f;
        }
    }

    const Centers<S> centers;
    F sums[kMoments + P];  // over pixels: the six moments, then one per plane

    for (uint32_t k = begin; k < end; k++) {
        if (k + 8 < end) __builtin_prefetch(&tile.splats[(uint32_t)tile.pairs[k + 8]]);
        const uint32_t id = (uint32_t)tile.pairs[k];
        const Splat& s = tile.splats[id];
        const Clip clip(s, left, top, S::Size);
        const F c = kept(splat<S::W>(s.c)), opacity = kept(splat<S::W>(s.opacity));
        F value[P], value_sum[P];
        for (int i = 0; i < P; i++) value[i] = kept(splat<S::W>(i < 3 ? s.rgb[i] : s.depth));
        for (int i = 0; i < P; i++) value_sum[i] = F{};
        const int first = clip.ya / S::R, last = clip.yb / S::R;

        const F zero = {};
        F m0 = zero, mx = zero, my = zero, mxx = zero, mxy = zero, myy = zero;
        for (int x = clip.xa; x <= clip.xb; x += S::Columns) {
            const F dx = centers.x + (x - clip.x), ax = dx * dx * s.a, bx = dx * s.b;
            F c0 = zero, c1 = zero, c2 = zero;  // moments in y of this column of vectors
            float* at = T + first * S::Band + x * S::R;
            F dy = centers.y + (first * S::R - clip.y);
            for (int band = first; band <= last; band++, at += S::Band, dy += (float)S::R) {
                const F before = load<S::W>(at);
                if (!any_positive(before)) continue;
                const Sample<S::W> sample(ax + dy * (bx + dy * c), before, opacity, rules);
                store<S::W>(at, sample.after);
                F along = zero;
                for (int i = 0; i < P; i++) {
                    const F g = load<S::W>(at + (2 + i) * N);
                    along += g * value[i];
                    value_sum[i] += g * sample.weight;
                }
                const F behind = load<S::W>(at + N) - sample.weight * along;
                store<S::W>(at + N, behind);
                const F grad_alpha = before * along - behind * reciprocal(1.f - sample.alpha);
                const F e = sample.where_smooth(sample.alpha * grad_alpha);  // dL/d(natural exponent)
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
        sums[0] = m0;
        sums[1] = mx;
        sums[2] = my;
        sums[3] = mxx;
        sums[4] = mxy;
        sums[5] = myy;
        for (int i = 0; i < P; i++) sums[kMoments + i] = value_sum[i];
        store_sums(sums, kMoments + P, args.records + (size_t)pair * args.record_size);
    }
}

static void forward_tile(const TileArgs& args, int tile, float* scratch) {
    if (args.channels != 3)
        forward_channels(args, tile, scratch);
    else if (args.with_depth)
        forward_tile_t<BestShape<kRgbTile>, 4>(args, tile, scratch);
    else
        forward_tile_t<BestShape<kRgbTile>, 3>(args, tile, scratch);
}

static void backward_tile(const TileGradArgs& args, int tile, float* scratch) {
    if (args.tile.channels != 3)
        backward_channels(args, tile, scratch);
    else if (args.tile.with_depth)
        backward_tile_t<BestShape<kRgbTile>, 4>(args, tile, scratch);
    else
        backward_tile_t<BestShape<kRgbTile>, 3>(args, tile, scratch);
}

// Floats of memory that a tile needs, forward or backward.
static size_t scratch_floats(int channels) {
    return channels == 3 ? (size_t)BestShape<kRgbTile>::Plane * 6 + 64 : channels_scratch_floats(channels);
}
