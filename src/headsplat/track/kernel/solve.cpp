// Conjugate gradients on an incomplete Cholesky factor.
#include <algorithm>
#include <cmath>

#include "matting.h"

namespace headsplat {

namespace {

// Columns of a lower triangular matrix; rows of a column ascend, the diagonal stands apart.
struct Factor {
    std::vector<double> diagonal, values;
    std::vector<int32_t> rows;
    std::vector<size_t> starts;
};

// Left-looking incomplete Cholesky by threshold (Saad, Iterative Methods for Sparse Linear Systems, 10.8; columns
// to the left are found by linked lists, as in Lin and More 1999). What is dropped goes to the diagonals, so that
// sums of rows are kept. False if a pivot is not positive.
bool factorise(const Band& band, double drop, double shift, Factor& factor) {
    const int n = band.size();
    factor.diagonal.assign(n, 0.0);
    factor.starts.assign(1, 0);
    factor.values.clear();
    factor.rows.clear();
    std::vector<double> work(n, 0.0), kept(n, 0.0);
    std::vector<int32_t> first(n, -1), next(n, -1), mark(n, -1), touched;
    std::vector<size_t> at(n);
    const int height = (int)band.number.size() / band.width;
    for (int column = 0; column < n; ++column) {
        touched.clear();
        const int y = band.pixel[column] / band.width, x = band.pixel[column] % band.width;
        for (int step = 1; step < Band::kSteps; ++step) {  // the pixels after this one, seen from them
            const int below = y - Band::before[step].dy, beside = x - Band::before[step].dx;
            if (below >= height || beside < 0 || beside >= band.width) continue;
            const int row = band.number[below * band.width + beside];
            if (row < 0) continue;
            work[row] = band.lower[(size_t)row * Band::kSteps + step];
            mark[row] = column;
            touched.push_back(row);
        }
        double pivot = band.lower[(size_t)column * Band::kSteps] * (1 + shift) + shift + kept[column];
        for (int left = first[column]; left >= 0;) {
            const int following = next[left];
            const size_t here = at[left], end = factor.starts[left + 1];
            const double times = factor.values[here];
            pivot -= times * times;
            for (size_t q = here + 1; q < end; ++q) {
                const int row = factor.rows[q];
                if (mark[row] != column) {
                    mark[row] = column;
                    work[row] = 0;
                    touched.push_back(row);
                }
                work[row] -= times * factor.values[q];
            }
            if (here + 1 < end) {
                at[left] = here + 1;
                next[left] = first[factor.rows[here + 1]];
                first[factor.rows[here + 1]] = left;
            }
            left = following;
        }
        size_t many = 0;
        for (const int row : touched) {
            if (std::abs(work[row]) < drop) {
                pivot += work[row];
                kept[row] += work[row];
            } else
                touched[many++] = row;
        }
        if (!(pivot > 1e-12)) return false;
        touched.resize(many);
        std::sort(touched.begin(), touched.end());
        const double root = std::sqrt(pivot);
        factor.diagonal[column] = root;
        for (const int row : touched) {
            factor.rows.push_back(row);
            factor.values.push_back(work[row] / root);
        }
        const size_t start = factor.starts.back();
        factor.starts.push_back(factor.rows.size());
        if (many > 0) {
            at[column] = start;
            next[column] = first[factor.rows[start]];
            first[factor.rows[start]] = column;
        }
    }
    return true;
}

void apply_inverse(const Factor& factor, const double* in, double* x) {
    const int n = (int)factor.diagonal.size();
    std::copy(in, in + n, x);
    for (int j = 0; j < n; ++j) {
        const double value = x[j] /= factor.diagonal[j];
        for (size_t q = factor.starts[j]; q < factor.starts[j + 1]; ++q) x[factor.rows[q]] -= factor.values[q] * value;
    }
    for (int j = n - 1; j >= 0; --j) {
        double value = x[j];
        for (size_t q = factor.starts[j]; q < factor.starts[j + 1]; ++q) value -= factor.values[q] * x[factor.rows[q]];
        x[j] = value / factor.diagonal[j];
    }
}

void multiply(const Band& band, const double* x, double* out) {
    const int n = band.size();
    std::fill(out, out + n, 0.0);
    for (int row = 0; row < n; ++row) {
        const double* lower = &band.lower[(size_t)row * Band::kSteps];
        const int y = band.pixel[row] / band.width, place = band.pixel[row] % band.width;
        double sum = lower[0] * x[row];
        for (int step = 1; step < Band::kSteps; ++step) {
            const int above = y + Band::before[step].dy, beside = place + Band::before[step].dx;
            if (above < 0 || beside < 0 || beside >= band.width) continue;
            const int column = band.number[above * band.width + beside];
            if (column < 0) continue;
            sum += lower[step] * x[column];
            out[column] += lower[step] * x[row];
        }
        out[row] += sum;
    }
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

}  // namespace

bool solve_band(const Band& band, double tolerance, int most_steps, double* out) {
    const int n = band.size();
    Factor factor;
    // Rounding and dropping may cost a pivot its sign; a heavier diagonal gives it back.
    double shift = 0;
    while (!factorise(band, 1e-4, shift, factor)) {
        shift = shift == 0 ? 1e-4 : 10 * shift;
        if (shift > 1e3) return false;
    }
    std::vector<double> x(n, 0.0), rest = band.right, z(n), p(n), image(n);
    const double enough = tolerance * std::sqrt(dot(rest, rest));
    apply_inverse(factor, rest.data(), z.data());
    p = z;
    double along = dot(rest, z);
    for (int step = 0; std::sqrt(dot(rest, rest)) > enough; ++step) {
        if (step == most_steps) return false;
        multiply(band, p.data(), image.data());
        const double length = along / dot(p, image);
        for (int i = 0; i < n; ++i) x[i] += length * p[i], rest[i] -= length * image[i];
        apply_inverse(factor, rest.data(), z.data());
        const double before = along;
        along = dot(rest, z);
        for (int i = 0; i < n; ++i) p[i] = z[i] + along / before * p[i];
    }
    std::copy(x.begin(), x.end(), out);
    return true;
}

}  // namespace headsplat
