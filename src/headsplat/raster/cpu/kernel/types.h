// Plain data shared by the orchestration (compiled once) and the inner loops (compiled per instruction set).
//
// Nothing here may instantiate standard-library templates: an inline function that the linker takes from the
// AVX-512 unit would crash older machines.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headsplat {

// The compositing rules; see headsplat.raster.rules.Rules for their meaning.
struct Rules {
    float alpha_max, alpha_min, transmittance_min, eps2d, near, direction_margin;
};

// World-to-camera transform (row-major R, t), intrinsics in pixels, image size.
struct View {
    float R[9], t[3];
    float fx, fy, cx, cy;
    int width, height;
};

// One projected Gaussian. The exponent log2(e) * (-d' conic d / 2) is a*dx*dx + b*dx*dy + c*dy*dy.
// Pixels x0..x1 and y0..y1 (inclusive) hold every sample with alpha >= alpha_min; x1 < x0 means "not drawn".
struct Splat {
    float x, y, a, b, c, opacity;
    int16_t x0, x1, y0, y1;
    float rgb[3];
    float depth;
};
static_assert(sizeof(Splat) == 48, "a splat should fill three quarters of a cache line");

// N Gaussians as they come from Python, row-major.
struct Cloud {
    const float *means, *quats, *scales, *opacities, *features;
    int count, channels;
};

// Pixels on a side of a tile: of RGB, and of other numbers of channels, whose pixels take more memory.
constexpr int kRgbTile = 64, kChannelsTile = 32;

// Tiles of `size` x `size` pixels, `columns` x `rows` of them.
struct Grid {
    int size_log2, columns, rows;
    int size() const { return 1 << size_log2; }
    int count() const { return columns * rows; }
};

// Gaussians are worked on in blocks, as structures of arrays; quat is wxyz. A rig's blocks are long, so that an
// expression has many rows in each; those of a still cloud are short, which is easier on the cache.
constexpr int kBlock = 256, kShortBlock = 64;
struct alignas(64) Block {
    float mean[3][kBlock], quat[4][kBlock], scale[3][kBlock], opacity[kBlock];
};

// Sparse per-expression changes, block by block. A row is k half floats, padding, and the Gaussian's place in its
// block (uint16) as its last entry.
struct RigEntry {
    uint16_t expression, rows;
    uint32_t first_row;
};
struct RigTable {
    int row_halves;               // 0 = there is no such table
    const uint32_t* block_start;  // (blocks + 1) into entries
    const RigEntry* entries;
    const uint16_t* rows;
};

// An avatar packed for animation.
struct Rig {
    int count, channels;
    const Block* rest;
    const float* features;                // (N, channels) at rest
    const uint8_t* skin_joints;           // (N, 4)
    const float* skin_weights;            // (N, 4)
    RigTable means, frames, appearance;   // k = 3, 6, channels + 1
};

// One pose of a rig.
struct Pose {
    const float* weights;     // per expression
    bool still;               // every weight is zero
    const float* columns;     // (J, 4, 4): the columns of each joint's matrix, padded to four; null = no skinning
    const float* turns;       // (J, J, 4): [first][joint] quaternion of joint with the sign that agrees with first
    int joints;
};

struct ProjectArgs {
    View view;
    Rules rules;
    Grid grid;
    Cloud cloud;
    const Rig* rig;           // if set, animate it instead of reading the cloud
    const Pose* pose;
    float* features;          // where an animated rig leaves its features; null if they stay those at rest
    Splat* splats;         // (N) out
    uint32_t* pair_base;   // (N) out: (splat, tile) pairs before this splat within its chunk
};

struct TileArgs {
    View view;
    Rules rules;
    Grid grid;
    const Splat* splats;
    const uint64_t* pairs;       // low 32 bits: splat; sorted by depth within each tile
    const uint32_t* tile_start;  // (tiles + 1)
    const float* features;       // (N, channels)
    int channels;
    bool with_depth;
    const float* background;     // (channels)
    float *image, *alpha, *depth;  // out; depth may be null
};

// A gradient record per (splat, tile) pair: six moments of dL/d(exponent), then features, then depth.
constexpr int kMoments = 6;

struct TileGradArgs {
    TileArgs tile;                 // its outputs hold the forward results
    const float *grad_image, *grad_alpha, *grad_depth;  // the last two may be null
    const uint32_t* pair_base;     // (N)
    const uint32_t* chunk_base;    // (chunks)
    int chunk_size;
    float* records;                // (pairs, record_size)
    int record_size;
    float* background;             // (tiles, channels): gradient of the background, tile by tile
};

struct ProjectGradArgs {
    View view;
    Rules rules;
    Grid grid;
    Cloud cloud;
    bool with_depth;
    const Splat* splats;
    const uint32_t *pair_base, *chunk_base;
    int chunk_size;
    const float* records;
    int record_size;
    float *means, *quats, *scales, *opacities, *features;  // out
};

// The inner loops, one table per instruction set.
struct Kernels {
    const char* name;
    // Projects Gaussians first..last-1, counts the tiles each touches in tile_counts, returns the pairs.
    uint32_t (*project)(const ProjectArgs&, int first, int last, uint32_t* tile_counts);
    size_t (*scratch_floats)(int channels);
    void (*forward_tile)(const TileArgs&, int tile, float* scratch);
    void (*backward_tile)(const TileGradArgs&, int tile, float* scratch);
    // viewmat_grad: 12 sums, dL/dR row-major then dL/dt.
    void (*backward_project)(const ProjectGradArgs&, int first, int last, double* viewmat_grad);
};

}  // namespace headsplat
