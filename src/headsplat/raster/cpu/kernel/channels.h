// Compositing of one tile with any number of channels, and its backward pass.
//
// Transmittance and depth lie in planes as in sample.h; features lie pixel after pixel, in the same order of
// pixels, so that all channels of a pixel that a splat really covers are added at once.
#pragma once

#include "sample.h"
#include "simd.h"
#include "types.h"

// Channels are worked on in vectors of V.
template <int V>
HS_INLINE int vectors_of(int channels) {
    return (channels + V - 1) / V;
}

// A Gaussian's features, rounded up with zeros in `padded` if they do not fill whole vectors.
HS_INLINE const float* whole_vectors(const float* features, uint32_t id, int channels, int wide, float* padded) {
    const float* mine = features + (size_t)id * channels;
    if (channels == wide) return mine;
    for (int i = 0; i < channels; i++) padded[i] = mine[i];
    return padded;
}

// out = features + t * background. What is not read again soon should not push other things out of the cache.
template <int V>
HS_INLINE void write_pixel(const float* features, float t, const float* background, int channels, float* out) {
    int i = 0;
#if defined(__AVX512F__)
    if (V == 16 && channels % 16 == 0)
        for (; i < channels; i += 16)
            _mm512_stream_ps(out + i, (__m512)(load<16>(features + i) + t * load<16>(background + i)));
#elif defined(__AVX2__)
    if (V == 8 && channels % 8 == 0)
        for (; i < channels; i += 8)
            _mm256_stream_ps(out + i, (__m256)(load<8>(features + i) + t * load<8>(background + i)));
#endif
    for (; i < channels; i++) out[i] = features[i] + t * background[i];
}

// A tile that no splat touches.
template <int V>
static void empty_tile(const TileArgs& args, int left, int top, int size, const float* zeros) {
    for (int y = top; y < top + size && y < args.view.height; y++)
        for (int x = left; x < left + size && x < args.view.width; x++) {
            const size_t pixel = (size_t)y * args.view.width + x;
            write_pixel<V>(zeros, 1.f, args.background, args.channels, args.image + pixel * args.channels);
            args.alpha[pixel] = 0.f;
            if (args.with_depth) args.depth[pixel] = 0.f;
        }
}

// All of such a tile's gradient is the background's.
static void empty_tile_backward(const TileGradArgs& args, int left, int top, int size, float* background) {
    const View& view = args.tile.view;
    const int channels = args.tile.channels;
    for (int i = 0; i < channels; i++) background[i] = 0.f;
    for (int y = top; y < top + size && y < view.height; y++)
        for (int x = left; x < left + size && x < view.width; x++) {
            const float* const g = args.grad_image + ((size_t)y * view.width + x) * channels;
            for (int i = 0; i < channels; i++) background[i] += g[i];
        }
}

// K vectors of V channels; K = 0: any number, known at run time.
template <class S, int V, int K>
static void forward_channels_t(const TileArgs& args, int tile, float* scratch) {
    typedef typename Lanes<S::W>::F F;
    typedef typename Lanes<V>::F C;
    constexpr int N = S::Plane;
    const int channels = args.channels, vectors = K ? K : vectors_of<V>(channels), wide = vectors * V;
    const int left = tile % args.grid.columns * S::Size, top = tile / args.grid.columns * S::Size;
    const RuleLanes<S::W> rules(args.rules);
    float *T = scratch, *depth = scratch + N, *features = scratch + 2 * N, *padded = features + (size_t)N * wide;
    const uint32_t begin = args.tile_start[tile], end = args.tile_start[tile + 1];

    for (int i = 0; i < wide; i++) padded[i] = 0.f;
    if (begin == end) return empty_tile<V>(args, left, top, S::Size, padded);
    for (int i = 0; i < N; i++) T[i] = i % S::Band < S::Size * S::R ? 1.f : -1.f;
    for (size_t i = 0; i < (size_t)N * (wide + 1); i++) depth[i] = 0.f;

    const Centers<S> centers;
    alignas(64) float weights[S::W];
    for (uint32_t k = begin; k < end; k++) {
        if (((k - begin) & 255) == 255 && all_closed<S>(T)) break;
        if (k + 8 < end) {
            const uint32_t soon = (uint32_t)args.pairs[k + 8];
            __builtin_prefetch(&args.splats[soon]);
            __builtin_prefetch(args.features + (size_t)soon * channels);
        }
        const uint32_t id = (uint32_t)args.pairs[k];
        const Splat& s = args.splats[id];
        const Clip clip(s, left, top, S::Size);
        const F c = splat<S::W>(s.c), opacity = splat<S::W>(s.opacity);
        const float* const mine = whole_vectors(args.features, id, channels, wide, padded);
        C value[K ? K : 1];
        for (int i = 0; i < K; i++) value[i] = load<V>(mine + V * i);
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
                if (args.with_depth) store<S::W>(at + N, load<S::W>(at + N) + sample.weight * s.depth);
                store<S::W>(weights, sample.weight);
                float* const row = features + (at - T) * wide;
                for (unsigned bits = sample.drawn_bits(); bits; bits &= bits - 1) {
                    const int lane = __builtin_ctz(bits);
                    const float w = weights[lane];
                    float* const pixel = row + lane * wide;
                    if (K)
                        for (int i = 0; i < K; i++) store<V>(pixel + V * i, load<V>(pixel + V * i) + w * value[i]);
                    else
                        for (int i = 0; i < vectors; i++)
                            store<V>(pixel + V * i, load<V>(pixel + V * i) + w * load<V>(mine + V * i));
                }
            }
        }
    }

    for (int y = 0; y < S::Size && top + y < args.view.height; y++) {
        for (int x = 0; x < S::Size && left + x < args.view.width; x++) {
            const size_t pixel = (size_t)(top + y) * args.view.width + left + x;
            const int q = S::at(x, y);
            const float t = magnitude(T[q]);
            write_pixel<V>(features + (size_t)q * wide, t, args.background, channels, args.image + pixel * channels);
            args.alpha[pixel] = 1.f - t;
            if (args.with_depth) args.depth[pixel] = depth[q];
        }
    }
}

template <class S, int V, int K>
static void backward_channels_t(const TileGradArgs& args, int tile_index, float* scratch) {
    typedef typename Lanes<S::W>::F F;
    typedef typename Lanes<V>::F C;
    constexpr int N = S::Plane;
    const TileArgs& tile = args.tile;
    const int channels = tile.channels, vectors = K ? K : vectors_of<V>(channels), wide = vectors * V;
    const int left = tile_index % tile.grid.columns * S::Size, top = tile_index / tile.grid.columns * S::Size;
    const int log2 = tile.grid.size_log2;
    const RuleLanes<S::W> rules(tile.rules);
    float *T = scratch, *rest = T + N, *depth = rest + N, *grads = depth + N, *padded = grads + (size_t)N * wide,
          *mine_sum = padded + wide;
    float* const background = args.background + (size_t)tile_index * channels;
    const uint32_t begin = tile.tile_start[tile_index], end = tile.tile_start[tile_index + 1];
    if (begin == end) return empty_tile_backward(args, left, top, S::Size, background);

    for (int i = 0; i < N; i++) T[i] = -1.f;
    for (size_t i = 0; i < (size_t)N * (2 + wide); i++) rest[i] = 0.f;
    for (int i = 0; i < wide; i++) padded[i] = 0.f;
    for (int i = 0; i < channels; i++) background[i] = 0.f;
    for (int y = 0; y < S::Size && top + y < tile.view.height; y++) {
        for (int x = 0; x < S::Size && left + x < tile.view.width; x++) {
            const size_t pixel = (size_t)(top + y) * tile.view.width + left + x;
            const int q = S::at(x, y);
            const float clear = 1.f - tile.alpha[pixel];
            float total = 0;
            for (int i = 0; i < channels; i++) {
                const float g = args.grad_image[pixel * channels + i];
                grads[(size_t)q * wide + i] = g;
                total += g * tile.image[pixel * channels + i];
                background[i] += g * clear;
            }
            if (args.grad_depth) {
                depth[q] = args.grad_depth[pixel];
                total += depth[q] * tile.depth[pixel];
            }
            if (args.grad_alpha) total -= args.grad_alpha[pixel] * clear;
            rest[q] = total;
            T[q] = 1.f;
        }
    }

    const Centers<S> centers;
    alignas(64) float weights[S::W], dots[S::W];
    for (uint32_t k = begin; k < end; k++) {
        if (k + 8 < end) {
            const uint32_t soon = (uint32_t)tile.pairs[k + 8];
            __builtin_prefetch(&tile.splats[soon]);
            __builtin_prefetch(tile.features + (size_t)soon * channels);
        }
        const uint32_t id = (uint32_t)tile.pairs[k];
        const Splat& s = tile.splats[id];
        const Clip clip(s, left, top, S::Size);
        const F c = splat<S::W>(s.c), opacity = splat<S::W>(s.opacity);
        const float* const mine = whole_vectors(tile.features, id, channels, wide, padded);
        C value[K ? K : 1], value_sum[K ? K : 1];
        for (int i = 0; i < K; i++) value[i] = load<V>(mine + V * i);
        for (int i = 0; i < K; i++) value_sum[i] = C{};
        if (!K)
            for (int i = 0; i < wide; i++) mine_sum[i] = 0.f;
        const int first = clip.ya / S::R, last = clip.yb / S::R;

        const F zero = {};
        F moments[kMoments + 1];  // and the gradient of the depth
        for (F& m : moments) m = zero;
        for (int x = clip.xa; x <= clip.xb; x += S::Columns) {
            const F dx = centers.x + (x - clip.x), ax = dx * dx * s.a, bx = dx * s.b;
            F c0 = zero, c1 = zero, c2 = zero;
            float* at = T + first * S::Band + x * S::R;
            F dy = centers.y + (first * S::R - clip.y);
            for (int band = first; band <= last; band++, at += S::Band, dy += (float)S::R) {
                const F before = load<S::W>(at);
                if (!any_positive(before)) continue;
                const Sample<S::W> sample(ax + dy * (bx + dy * c), before, opacity, rules);
                store<S::W>(at, sample.after);
                store<S::W>(weights, sample.weight);
                store<S::W>(dots, zero);
                const float* const row = grads + (at - T) * wide;
                for (unsigned bits = sample.drawn_bits(); bits; bits &= bits - 1) {
                    const int lane = __builtin_ctz(bits);
                    const float w = weights[lane];
                    const float* const pixel = row + lane * wide;
                    C dot = {};
                    if (K) {
                        for (int i = 0; i < K; i++) {
                            const C g = load<V>(pixel + V * i);
                            dot += g * value[i];
                            value_sum[i] += g * w;
                        }
                    } else {
                        for (int i = 0; i < wide; i += V) {
                            const C g = load<V>(pixel + i);
                            dot += g * load<V>(mine + i);
                            store<V>(mine_sum + i, load<V>(mine_sum + i) + g * w);
                        }
                    }
                    dots[lane] = sum(dot);
                }
                F along = load<S::W>(dots);
                if (args.grad_depth) {
                    const F g = load<S::W>(at + 2 * N);
                    along += g * s.depth;
                    moments[kMoments] += g * sample.weight;
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
            moments[0] += c0;
            moments[1] += cx;
            moments[2] += c1;
            moments[3] += cx * dx;
            moments[4] += c1 * dx;
            moments[5] += c2;
        }
        const int tx0 = s.x0 >> log2, tx1 = s.x1 >> log2, ty0 = s.y0 >> log2;
        const uint32_t pair = args.chunk_base[id / args.chunk_size] + args.pair_base[id] +
                              ((top >> log2) - ty0) * (tx1 - tx0 + 1) + ((left >> log2) - tx0);
        float* const record = args.records + (size_t)pair * args.record_size;
        store_sums(moments, kMoments, record);
        for (int i = 0; i < K; i++) store<V>(mine_sum + V * i, value_sum[i]);
        for (int i = 0; i < channels; i++) record[kMoments + i] = mine_sum[i];
        if (tile.with_depth) record[kMoments + channels] = sum(moments[kMoments]);
    }
}

static size_t channels_scratch_floats(int channels) {
    const size_t wide = (channels + 15) / 16 * 16;
    return (size_t)BestShape<kChannelsTile>::Plane * (3 + wide) + 2 * wide + 64;
}

static void forward_channels(const TileArgs& args, int tile, float* scratch) {
    typedef BestShape<kChannelsTile> S;
#if defined(__AVX512F__)
    if (args.channels > 16 && args.channels <= 32) return forward_channels_t<S, 16, 2>(args, tile, scratch);
    if (args.channels > 8) return forward_channels_t<S, 16, 0>(args, tile, scratch);
    if (args.channels > 4) return forward_channels_t<S, 8, 1>(args, tile, scratch);
#elif defined(__AVX2__)
    if (args.channels > 24 && args.channels <= 32) return forward_channels_t<S, 8, 4>(args, tile, scratch);
    if (args.channels > 8) return forward_channels_t<S, 8, 0>(args, tile, scratch);
    if (args.channels > 4) return forward_channels_t<S, 8, 1>(args, tile, scratch);
#else
    if (args.channels > 4) return forward_channels_t<S, 4, 0>(args, tile, scratch);
#endif
    forward_channels_t<S, 4, 1>(args, tile, scratch);
}

static void backward_channels(const TileGradArgs& args, int tile, float* scratch) {
    typedef BestShape<kChannelsTile> S;
    const int channels = args.tile.channels;
#if defined(__AVX512F__)
    if (channels > 16 && channels <= 32) return backward_channels_t<S, 16, 2>(args, tile, scratch);
    if (channels > 8) return backward_channels_t<S, 16, 0>(args, tile, scratch);
    if (channels > 4) return backward_channels_t<S, 8, 1>(args, tile, scratch);
#elif defined(__AVX2__)
    if (channels > 24 && channels <= 32) return backward_channels_t<S, 8, 4>(args, tile, scratch);
    if (channels > 8) return backward_channels_t<S, 8, 0>(args, tile, scratch);
    if (channels > 4) return backward_channels_t<S, 8, 1>(args, tile, scratch);
#else
    if (channels > 4) return backward_channels_t<S, 4, 0>(args, tile, scratch);
#endif
    backward_channels_t<S, 4, 1>(args, tile, scratch);
}
