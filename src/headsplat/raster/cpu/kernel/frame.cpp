#include "frame.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "pool.h"

namespace headsplat {

#if defined(HEADSPLAT_X86)
extern const Kernels kernels_v2, kernels_v3, kernels_v4;
#else
extern const Kernels kernels_generic;
#endif

namespace {

constexpr int kChunk = 1024;  // Gaussians per task; fixed, so that results do not depend on the thread count

const Kernels& choose_kernels() {
#if defined(HEADSPLAT_X86)
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    const char* wanted = std::getenv("HEADSPLAT_ISA");
    if (wanted && !std::strcmp(wanted, "v2")) return kernels_v2;
    if (wanted && !std::strcmp(wanted, "v3") && v3) return kernels_v3;
    return v4 ? kernels_v4 : v3 ? kernels_v3 : kernels_v2;
#else
    return kernels_generic;
#endif
}

int chunks_of(int count) { return (count + kChunk - 1) / kChunk; }

Grid choose_grid(const View& view, int channels) {
    Grid grid;
    grid.size_log2 = __builtin_ctz(channels == 3 ? kRgbTile : kChannelsTile);
    grid.columns = (view.width + grid.size() - 1) >> grid.size_log2;
    grid.rows = (view.height + grid.size() - 1) >> grid.size_log2;
    return grid;
}

// Sorts keys ascending by all 64 bits that differ: radix on the depth, stable over the ascending ids below it.
void sort_pairs(uint64_t* keys, uint64_t* other, uint32_t n) {
    if (n < 48) {
        std::sort(keys, keys + n);
        return;
    }
    uint32_t low = ~0u, high = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t depth = (uint32_t)(keys[i] >> 32);
        low = std::min(low, depth);
        high = std::max(high, depth);
    }
    const int bits = high == low ? 0 : 32 - __builtin_clz(high - low);
    const int passes = (bits + 7) / 8;
    uint32_t histogram[4][256] = {};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t depth = (uint32_t)(keys[i] >> 32) - low;
        for (int p = 0; p < passes; p++) histogram[p][depth >> (8 * p) & 255]++;
    }
    uint64_t *from = keys, *to = other;
    for (int p = 0; p < passes; p++) {
        uint32_t sum = 0;
        for (uint32_t& bin : histogram[p]) {
            const uint32_t here = bin;
            bin = sum;
            sum += here;
        }
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t depth = (uint32_t)(from[i] >> 32) - low;
            to[histogram[p][depth >> (8 * p) & 255]++] = from[i];
        }
        std::swap(from, to);
    }
    if (from != keys) std::memcpy(keys, from, n * sizeof *keys);
}

// Memory of one worker for the duration of a loop, aligned for vectors.
struct Scratch {
    explicit Scratch(int threads) : of_worker(threads) {}
    template <class T>
    T* get(int worker, size_t count) {
        Buffer<char>& mine = of_worker[worker];
        if (mine.size() < count * sizeof(T)) mine = Buffer<char>(count * sizeof(T));
        return reinterpret_cast<T*>(mine.data());
    }
    std::vector<Buffer<char>> of_worker;
};

}  // namespace

const Kernels& kernels() {
    static const Kernels& chosen = choose_kernels();
    return chosen;
}

TileArgs Frame::tile_args(const Cloud& cloud, const float* background, const FrameOutput& out) const {
    return {settings_.view,     settings_.rules, grid_,      splats_.data(), pairs_.data(), tile_start_.data(),
            cloud.features,     channels_,       settings_.with_depth,       background,    out.image,
            out.alpha,          out.depth};
}

Frame::Frame(const Cloud& cloud, const FrameSettings& settings, const float* background, const FrameOutput& out)
    : settings_(settings), count_(cloud.count), channels_(cloud.channels) {
    render(cloud, nullptr, nullptr, background, out);
}

Frame::Frame(const Rig& rig, const Pose& pose, const FrameSettings& settings, const float* background,
             const FrameOutput& out)
    : settings_(settings), count_(rig.count), channels_(rig.channels) {
    Cloud cloud{nullptr, nullptr, nullptr, nullptr, rig.features, rig.count, rig.channels};
    render(cloud, &rig, &pose, background, out);
}

void Frame::render(const Cloud& given, const Rig* rig, const Pose* pose, const float* background,
                   const FrameOutput& out) {
    const FrameSettings& settings = settings_;
    const int threads = settings.threads > 0 ? settings.threads : default_threads();
    grid_ = choose_grid(settings.view, channels_);
    const int tiles = grid_.count(), chunks = chunks_of(count_);
    splats_ = Buffer<Splat>(count_);
    pair_base_ = Buffer<uint32_t>(count_);
    chunk_base_ = Buffer<uint32_t>(chunks + 1);
    tile_start_ = Buffer<uint32_t>(tiles + 1);
    tile_order_ = Buffer<uint32_t>(tiles);

    // A rig whose colours move writes them where they are then read.
    Cloud cloud = given;
    Buffer<float> features;
    if (rig && rig->appearance.row_halves && !pose->still) {
        features = Buffer<float>((size_t)count_ * channels_);
        cloud.features = features.data();
    }

    // 1. Project; count pairs per chunk and tile.
    Buffer<uint32_t> counts((size_t)chunks * tiles);
    const ProjectArgs project_args{settings.view, settings.rules, grid_, cloud,           rig,
                                   pose,          features.data(), splats_.data(), pair_base_.data()};
    parallel_for(chunks, threads, [&](int chunk, int) {
        uint32_t* const mine = counts.data() + (size_t)chunk * tiles;
        std::memset(mine, 0, tiles * sizeof *mine);
        const int first = chunk * kChunk;
        chunk_base_[chunk] = kernels().project(project_args, first, std::min(first + kChunk, count_), mine);
    });

    // 2. Where each chunk writes its pairs in each tile's list, so that lists keep the order of the Gaussians.
    uint64_t pairs = 0;
    for (int tile = 0; tile < tiles; tile++) {
        tile_start_[tile] = (uint32_t)pairs;
        for (int chunk = 0; chunk < chunks; chunk++) {
            uint32_t& entry = counts[(size_t)chunk * tiles + tile];
            const uint32_t here = entry;
            entry = (uint32_t)pairs;
            pairs += here;
        }
    }
    if (pairs > 0xffffffffu) throw std::runtime_error("the Gaussians cover too many tiles; check their scales");
    tile_start_[tiles] = (uint32_t)pairs;
    uint32_t before = 0;
    for (int chunk = 0; chunk < chunks; chunk++) {
        const uint32_t here = chunk_base_[chunk];
        chunk_base_[chunk] = before;
        before += here;
    }
    chunk_base_[chunks] = before;

    // 3. Fill the lists.
    pairs_ = Buffer<uint64_t>(pairs);
    parallel_for(chunks, threads, [&](int chunk, int) {
        uint32_t* const at = counts.data() + (size_t)chunk * tiles;
        const int last = std::min((chunk + 1) * kChunk, count_), log2 = grid_.size_log2;
        for (int i = chunk * kChunk; i < last; i++) {
            const Splat& s = splats_[i];
            if (s.x1 < s.x0) continue;
            uint32_t depth;
            std::memcpy(&depth, &s.depth, 4);
            const uint64_t key = (uint64_t)depth << 32 | (uint32_t)i;
            for (int ty = s.y0 >> log2; ty <= s.y1 >> log2; ty++)
                for (int tx = s.x0 >> log2; tx <= s.x1 >> log2; tx++) pairs_[at[ty * grid_.columns + tx]++] = key;
        }
    });

    // 4. Per tile, the longest first: sort by depth and composite.
    for (int tile = 0; tile < tiles; tile++) tile_order_[tile] = tile;
    const auto length = [&](uint32_t tile) { return tile_start_[tile + 1] - tile_start_[tile]; };
    std::sort(tile_order_.data(), tile_order_.data() + tiles, [&](uint32_t a, uint32_t b) {
        return length(a) != length(b) ? length(a) > length(b) : a < b;
    });
    const uint32_t longest = tiles ? length(tile_order_[0]) : 0;
    const size_t plane_floats = kernels().scratch_floats(channels_);
    const TileArgs args = tile_args(cloud, background, out);
    Scratch scratch(threads);
    parallel_for(tiles, threads, [&](int index, int worker) {
        const uint32_t tile = tile_order_[index];
        float* const memory = scratch.get<float>(worker, std::max<size_t>(plane_floats, 2ull * longest));
        sort_pairs(pairs_.data() + tile_start_[tile], reinterpret_cast<uint64_t*>(memory), length(tile));
        kernels().forward_tile(args, tile, memory);
    });
}

void Frame::backward(const Cloud& cloud, const FrameOutput& out, const float* grad_image, const float* grad_alpha,
                     const float* grad_depth, const ProjectGradArgs& grads, float* background_grad,
                     float* viewmat_grad) const {
    const int planes = channels_ + settings_.with_depth, record = kMoments + planes;
    const int threads = settings_.threads > 0 ? settings_.threads : default_threads();
    const int chunks = chunks_of(count_);
    Buffer<float> records((size_t)tile_start_[grid_.count()] * record);

    Buffer<float> background((size_t)grid_.count() * channels_);
    const TileGradArgs tile_grads{tile_args(cloud, nullptr, out), grad_image, grad_alpha,     grad_depth, pair_base_.data(),
                                  chunk_base_.data(),             kChunk,     records.data(), record,     background.data()};
    const size_t floats = kernels().scratch_floats(channels_);
    Scratch scratch(threads);
    parallel_for(grid_.count(), threads, [&](int index, int worker) {
        kernels().backward_tile(tile_grads, tile_order_[index], scratch.get<float>(worker, floats));
    });

    for (int c = 0; c < channels_; c++) {
        double total = 0;
        for (int tile = 0; tile < grid_.count(); tile++) total += background[(size_t)tile * channels_ + c];
        background_grad[c] = (float)total;
    }

    ProjectGradArgs args = grads;
    args.view = settings_.view;
    args.rules = settings_.rules;
    args.grid = grid_;
    args.cloud = cloud;
    args.with_depth = settings_.with_depth;
    args.splats = splats_.data();
    args.pair_base = pair_base_.data();
    args.chunk_base = chunk_base_.data();
    args.chunk_size = kChunk;
    args.records = records.data();
    args.record_size = record;
    std::vector<double> sums(12 * (size_t)chunks);
    parallel_for(chunks, threads, [&](int chunk, int) {
        const int first = chunk * kChunk;
        kernels().backward_project(args, first, std::min(first + kChunk, count_), &sums[12 * (size_t)chunk]);
    });
    for (int k = 0; k < 12; k++) {
        double total = 0;
        for (int chunk = 0; chunk < chunks; chunk++) total += sums[12 * (size_t)chunk + k];
        viewmat_grad[k] = (float)total;
    }
}

}  // namespace headsplat
