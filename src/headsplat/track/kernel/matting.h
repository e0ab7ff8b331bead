// Closed-form matting and the colours of what was cut out.
#pragma once

#include <cstdint>
#include <vector>

namespace headsplat {

// A symmetric matrix over the undecided pixels, which couples each with the 24 around it. Of a row only the part
// up to the diagonal is kept: 13 numbers in the order of `before`.
struct Band {
    struct Step {
        int dy, dx;
    };
    static constexpr int kSteps = 13;
    static const Step before[kSteps];  // before[0] is the pixel itself

    int width;
    std::vector<int32_t> number;  // of each pixel among the undecided ones, or -1
    std::vector<int32_t> pixel;   // of each undecided one
    std::vector<double> lower;    // undecided x 13
    std::vector<double> right;    // the right-hand side, from the pixels that are decided

    int size() const { return (int)pixel.size(); }
};

// Levin, Lischinski and Weiss 2008, equations 5, 9 and 11: windows of 3 x 3 pixels, epsilon of the colours'
// covariance. `image` is height x width x 3, 0..1; `trimap` 0, 1, or anything between for undecided pixels.
Band matting_band(const float* image, const double* trimap, int height, int width, double epsilon);

// Solves the band by conjugate gradients on an incomplete factor; false if it does not come to rest.
bool solve_band(const Band& band, double tolerance, int most_steps, double* out);

// Germer et al. 2020: foreground colours (height x width x 3), multi-level, for an image and its alpha.
void own_colours(const float* image, const float* alpha, int height, int width, float* out);

}  // namespace headsplat
