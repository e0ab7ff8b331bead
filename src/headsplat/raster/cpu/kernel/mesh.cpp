#include "mesh.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "pool.h"

namespace headsplat {
namespace {

constexpr int kBand = 32;          // rows per task
constexpr double kGrid = 256.0;    // corners are rounded to 1/256 pixel, so that edge tests are exact
constexpr double kFarthest = 1e6;  // pixels; beyond it a triangle is not drawn

struct Corner {
    int64_t x, y;
    double inverse_depth;
    bool usable;
};

// Twice the signed area of (a, b, p) in units of 1/256 squared pixels; exact.
int64_t edge(const Corner& a, const Corner& b, int64_t x, int64_t y) {
    return (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
}

// A sample exactly on an edge belongs to one side of it only, whichever triangle asks.
bool owns(const Corner& a, const Corner& b) { return b.y > a.y || (b.y == a.y && b.x < a.x); }

}  // namespace

void rasterize_mesh(const float* points, int point_count, const int32_t* faces, int face_count, int width, int height,
                    float near, float* depth, int32_t* face, float* barycentrics) {
    const size_t pixels = (size_t)width * height;
    std::fill(depth, depth + pixels, std::numeric_limits<float>::infinity());
    std::fill(face, face + pixels, -1);
    std::fill(barycentrics, barycentrics + 3 * pixels, 0.f);

    const auto corner = [&](int32_t index) {
        Corner c{0, 0, 0, false};
        if (index < 0 || index >= point_count) return c;
        const float* p = points + 3 * (size_t)index;
        if (!(p[2] > near) || !std::isfinite(p[2]) || !(std::fabs(p[0]) < kFarthest) || !(std::fabs(p[1]) < kFarthest))
            return c;
        return Corner{std::llround(p[0] * kGrid), std::llround(p[1] * kGrid), 1.0 / p[2], true};
    };

    // Each band of rows draws all faces that reach it, in order: no locks, the same picture for any thread count.
    parallel_for((height + kBand - 1) / kBand, 0, [&](int band, int) {
        const int first_row = band * kBand, last_row = std::min(height, first_row + kBand) - 1;
        for (int f = 0; f < face_count; f++) {
            const int32_t* index = faces + 3 * (size_t)f;
            if (std::min({index[0], index[1], index[2]}) < 0 || std::max({index[0], index[1], index[2]}) >= point_count)
                continue;
            const float *p0 = points + 3 * (size_t)index[0], *p1 = points + 3 * (size_t)index[1],
                        *p2 = points + 3 * (size_t)index[2];
            if (std::max({p0[1], p1[1], p2[1]}) < first_row - 1.f || std::min({p0[1], p1[1], p2[1]}) > last_row + 2.f)
                continue;
            Corner c[3] = {corner(index[0]), corner(index[1]), corner(index[2])};
            if (!c[0].usable || !c[1].usable || !c[2].usable) continue;
            int64_t area = edge(c[0], c[1], c[2].x, c[2].y);
            if (area == 0) continue;
            int order[3] = {0, 1, 2};
            if (area < 0) {  // both sides are drawn
                std::swap(c[1], c[2]);
                std::swap(order[1], order[2]);
                area = -area;
            }
            // Samples lie at half pixels: 256 * i + 128.
            const auto low = [](int64_t v) { return (int)((v - 128 + 255) >> 8); };
            const auto high = [](int64_t v) { return (int)((v - 128) >> 8); };
            const int x0 = std::max(0, low(std::min({c[0].x, c[1].x, c[2].x})));
            const int x1 = std::min(width - 1, high(std::max({c[0].x, c[1].x, c[2].x})));
            const int y0 = std::max(first_row, low(std::min({c[0].y, c[1].y, c[2].y})));
            const int y1 = std::min(last_row, high(std::max({c[0].y, c[1].y, c[2].y})));
            const int64_t bias0 = owns(c[1], c[2]) ? 0 : -1, bias1 = owns(c[2], c[0]) ? 0 : -1,
                          bias2 = owns(c[0], c[1]) ? 0 : -1;
            for (int y = y0; y <= y1; y++) {
                for (int x = x0; x <= x1; x++) {
                    const int64_t sx = 256ll * x + 128, sy = 256ll * y + 128;
                    const int64_t e0 = edge(c[1], c[2], sx, sy), e1 = edge(c[2], c[0], sx, sy),
                                  e2 = edge(c[0], c[1], sx, sy);
                    if ((e0 + bias0) < 0 || (e1 + bias1) < 0 || (e2 + bias2) < 0) continue;
                    const double w0 = e0 * c[0].inverse_depth, w1 = e1 * c[1].inverse_depth, w2 = e2 * c[2].inverse_depth;
                    const double sum = w0 + w1 + w2;
                    const float z = (float)((double)area / sum);
                    const size_t pixel = (size_t)y * width + x;
                    if (!(z < depth[pixel])) continue;  // at equal depth the first face stays
                    depth[pixel] = z;
                    face[pixel] = f;
                    float* b = barycentrics + 3 * pixel;
                    b[order[0]] = (float)(w0 / sum);
                    b[order[1]] = (float)(w1 / sum);
                    b[order[2]] = (float)(w2 / sum);
                }
            }
        }
    });
}

}  // namespace headsplat
