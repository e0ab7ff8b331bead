// The person's own colours where hair and backdrop mix.
#include <algorithm>
#include <cmath>

#include "matting.h"

namespace headsplat {

namespace {

constexpr float kEven = 1e-5f;  // how much a pixel takes after its neighbours where alpha is even
constexpr int kSmall = 32;      // pyramid levels up to this size are cheap, and get more sweeps
constexpr int kSmallSweeps = 10, kSweeps = 2;

struct Level {
    int height = 1, width = 1;
    std::vector<float> front, back;  // height x width x 3
};

// For each place of a side `to` pixels long, the nearest place of one `from` long.
std::vector<int> nearest(int to, int from) {
    std::vector<int> places(to);
    for (int i = 0; i < to; ++i) places[i] = (int)((int64_t)i * from / to);
    return places;
}

// Mean colour where alpha is over (or under) a bound.
void mean_colour(const float* image, const float* alpha, size_t count, bool over, float* out) {
    double sum[3] = {0, 0, 0}, many = 1e-5;
    for (size_t i = 0; i < count; ++i)
        if (over ? alpha[i] > 0.9f : alpha[i] < 0.1f) {
            for (int c = 0; c < 3; ++c) sum[c] += image[3 * i + c];
            ++many;
        }
    for (int c = 0; c < 3; ++c) out[c] = (float)(sum[c] / many);
}

// One pixel: both colours that explain it best, given those of its four neighbours (equations 8 to 10).
void settle(const float* image, const float* alpha, Level& level, int y, int x) {
    const int here = y * level.width + x;
    const int around[4] = {y * level.width + std::max(x - 1, 0), y * level.width + std::min(x + 1, level.width - 1),
                           std::max(y - 1, 0) * level.width + x,
                           std::min(y + 1, level.height - 1) * level.width + x};
    const float a = alpha[here], b = 1 - a;
    float near = 0, front[3], back[3];
    for (int c = 0; c < 3; ++c) front[c] = a * image[3 * here + c], back[c] = b * image[3 * here + c];
    for (const int other : around) {
        const float weight = kEven + std::abs(a - alpha[other]);
        near += weight;
        for (int c = 0; c < 3; ++c) {
            front[c] += weight * level.front[3 * other + c];
            back[c] += weight * level.back[3 * other + c];
        }
    }
    const float aa = a * a + near, bb = b * b + near, ab = a * b;
    const float scale = 1 / (aa * bb - ab * ab);
    for (int c = 0; c < 3; ++c) {
        level.front[3 * here + c] = std::clamp(scale * (bb * front[c] - ab * back[c]), 0.f, 1.f);
        level.back[3 * here + c] = std::clamp(scale * (aa * back[c] - ab * front[c]), 0.f, 1.f);
    }
}

}  // namespace

void own_colours(const float* image, const float* alpha, int height, int width, float* out) {
    Level level;
    level.front.resize(3);
    level.back.resize(3);
    mean_colour(image, alpha, (size_t)height * width, true, level.front.data());
    mean_colour(image, alpha, (size_t)height * width, false, level.back.data());
    const int levels = std::max(1, (int)std::ceil(std::log2(std::max(width, height))));
    std::vector<float> small_image, small_alpha;
    for (int i = 0; i <= levels; ++i) {
        Level fine;
        fine.width = (int)std::lround(std::pow(width, (double)i / levels));
        fine.height = (int)std::lround(std::pow(height, (double)i / levels));
        const size_t count = (size_t)fine.height * fine.width;
        fine.front.resize(3 * count), fine.back.resize(3 * count);
        small_image.resize(3 * count), small_alpha.resize(count);
        const std::vector<int> ys = nearest(fine.height, height), xs = nearest(fine.width, width);
        const std::vector<int> coarse_ys = nearest(fine.height, level.height),
                               coarse_xs = nearest(fine.width, level.width);
        for (int y = 0; y < fine.height; ++y)
            for (int x = 0; x < fine.width; ++x) {
                const size_t to = (size_t)y * fine.width + x, from = (size_t)ys[y] * width + xs[x];
                const size_t coarse = (size_t)coarse_ys[y] * level.width + coarse_xs[x];
                small_alpha[to] = alpha[from];
                for (int c = 0; c < 3; ++c) {
                    small_image[3 * to + c] = image[3 * from + c];
                    fine.front[3 * to + c] = level.front[3 * coarse + c];
                    fine.back[3 * to + c] = level.back[3 * coarse + c];
                }
            }
        const int sweeps = fine.width <= kSmall && fine.height <= kSmall ? kSmallSweeps : kSweeps;
        for (int sweep = 0; sweep < sweeps; ++sweep)
            for (int y = 0; y < fine.height; ++y)
                for (int x = 0; x < fine.width; ++x) settle(small_image.data(), small_alpha.data(), fine, y, x);
        level = std::move(fine);
    }
    std::copy(level.front.begin(), level.front.end(), out);
}

}  // namespace headsplat
