// The linear system of closed-form matting.
#include <cmath>

#include "matting.h"

namespace headsplat {

const Band::Step Band::before[Band::kSteps] = {{0, 0},   {0, -1},  {0, -2},  {-1, -2}, {-1, -1}, {-1, 0}, {-1, 1},
                                               {-1, 2},  {-2, -2}, {-2, -1}, {-2, 0},  {-2, 1},  {-2, 2}};

namespace {

constexpr int kSide = 3, kArea = kSide * kSide;

// Where in a row of `lower` the pixel (dy, dx) before this one stands.
int step_of(int dy, int dx) { return dy == 0 ? -dx : dy == -1 ? 5 + dx : 10 + dx; }

struct Window {
    double centred[kArea][3];   // colours less their mean
    double weighed[kArea][3];   // times the inverse covariance
};

// Colours of the window whose first pixel is `at`.
void look(const float* image, int width, int at, double epsilon, Window& window) {
    double mean[3] = {0, 0, 0};
    for (int i = 0; i < kArea; ++i) {
        const float* color = image + 3 * (size_t)(at + (i / kSide) * width + i % kSide);
        for (int c = 0; c < 3; ++c) mean[c] += window.centred[i][c] = color[c];
    }
    for (int i = 0; i < kArea; ++i)
        for (int c = 0; c < 3; ++c) window.centred[i][c] -= mean[c] / kArea;
    double xx = epsilon, xy = 0, xz = 0, yy = epsilon, yz = 0, zz = epsilon;
    for (const double* d : window.centred) {
        xx += d[0] * d[0], xy += d[0] * d[1], xz += d[0] * d[2];
        yy += d[1] * d[1], yz += d[1] * d[2], zz += d[2] * d[2];
    }
    // The adjugate over the determinant; the ninth of the mean goes in at once.
    const double a = yy * zz - yz * yz, b = xz * yz - xy * zz, c = xy * yz - xz * yy;
    const double scale = kArea / (xx * a + xy * b + xz * c);
    const double m[3][3] = {{a, b, c}, {b, xx * zz - xz * xz, xy * xz - xx * yz},
                            {c, xy * xz - xx * yz, xx * yy - xy * xy}};
    for (int i = 0; i < kArea; ++i)
        for (int r = 0; r < 3; ++r) {
            const double* d = window.centred[i];
            window.weighed[i][r] = scale * (m[r][0] * d[0] + m[r][1] * d[1] + m[r][2] * d[2]);
        }
}

}  // namespace

Band matting_band(const float* image, const double* trimap, int height, int width, double epsilon) {
    Band band;
    band.width = width;
    band.number.assign((size_t)height * width, -1);
    for (int p = 0; p < height * width; ++p)
        if (trimap[p] > 0 && trimap[p] < 1) {
            band.number[p] = band.size();
            band.pixel.push_back(p);
        }
    band.lower.assign((size_t)band.size() * Band::kSteps, 0.0);
    band.right.assign(band.size(), 0.0);
    Window window;
    for (int y = 0; y + kSide <= height; ++y)
        for (int x = 0; x + kSide <= width; ++x) {
            int pixels[kArea], undecided = 0;
            for (int i = 0; i < kArea; ++i) {
                pixels[i] = (y + i / kSide) * width + x + i % kSide;
                undecided += band.number[pixels[i]] >= 0;
            }
            if (undecided == 0) continue;
            look(image, width, y * width + x, epsilon, window);
            for (int i = 0; i < kArea; ++i) {
                const int row = band.number[pixels[i]];
                if (row < 0) continue;
                const double* w = window.weighed[i];
                double* const lower = &band.lower[(size_t)row * Band::kSteps];
                for (int j = 0; j < kArea; ++j) {
                    const double* d = window.centred[j];
                    const double value = (i == j) - (1 + w[0] * d[0] + w[1] * d[1] + w[2] * d[2]) / kArea;
                    if (band.number[pixels[j]] < 0)
                        band.right[row] -= value * trimap[pixels[j]];
                    else if (j <= i)
                        lower[step_of(j / kSide - i / kSide, j % kSide - i % kSide)] += value;
                }
            }
        }
    return band;
}

}  // namespace headsplat
