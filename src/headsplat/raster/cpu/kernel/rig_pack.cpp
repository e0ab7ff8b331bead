#include "rig_pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace headsplat {
namespace {

int blocks_of(int count) { return (count + kBlock - 1) / kBlock; }

// Unit quaternion wxyz of a row-major rotation matrix with rows `stride` apart (Shepperd's method).
void quat_of_matrix(const float* m, int stride, float* q) {
    const auto at = [&](int r, int c) { return (double)m[r * stride + c]; };
    const double square[4] = {1 + at(0, 0) + at(1, 1) + at(2, 2), 1 + at(0, 0) - at(1, 1) - at(2, 2),
                              1 - at(0, 0) + at(1, 1) - at(2, 2), 1 - at(0, 0) - at(1, 1) + at(2, 2)};
    const double a = at(2, 1) - at(1, 2), b = at(0, 2) - at(2, 0), c = at(1, 0) - at(0, 1);
    const double d = at(1, 0) + at(0, 1), e = at(0, 2) + at(2, 0), f = at(2, 1) + at(1, 2);
    const double rows[4][4] = {{square[0], a, b, c}, {a, square[1], d, e}, {b, d, square[2], f}, {c, e, f, square[3]}};
    const double* best = rows[std::max_element(square, square + 4) - square];
    const double norm = std::sqrt(best[0] * best[0] + best[1] * best[1] + best[2] * best[2] + best[3] * best[3]);
    const double sign = best[0] < 0 ? -1 : 1;
    for (int k = 0; k < 4; k++) q[k] = (float)(sign * best[k] / norm);
}

}  // namespace

PackedRig::PackedRig(const Cloud& rest, const uint8_t* skin_joints, const float* skin_weights,
                     const SparseOffsets& means, const SparseOffsets& frames, const SparseOffsets& appearance)
    : rest_(blocks_of(rest.count)),
      features_(rest.features, rest.features + (size_t)rest.count * rest.channels),
      skin_weights_(skin_weights, skin_weights + 4 * (size_t)rest.count),
      skin_joints_(skin_joints, skin_joints + 4 * (size_t)rest.count) {
    for (int block = 0; block < blocks_of(rest.count); block++) {
        Block& b = rest_[block];
        for (int j = 0; j < kBlock; j++) {
            const int64_t i = (int64_t)block * kBlock + j;
            const bool real = i < rest.count;  // the last block is filled up with invisible ones
            for (int k = 0; k < 3; k++) b.mean[k][j] = real ? rest.means[3 * i + k] : 1.f;
            for (int k = 0; k < 4; k++) b.quat[k][j] = real ? rest.quats[4 * i + k] : 1.f;
            for (int k = 0; k < 3; k++) b.scale[k][j] = real ? rest.scales[3 * i + k] : 1.f;
            b.opacity[j] = real ? rest.opacities[i] : 0.f;
        }
    }
    // The inner loop stops at the first zero weight behind the first.
    for (int i = 0; i < rest.count; i++) {
        float* const w = &skin_weights_[4 * (size_t)i];
        uint8_t* const j = &skin_joints_[4 * (size_t)i];
        for (int k = 1, to = 1; k < 4; k++)
            if (w[k] != 0) {
                std::swap(w[to], w[k]);
                std::swap(j[to++], j[k]);
            }
    }
    rig_ = {rest.count,          rest.channels,  rest_.data(), features_.data(), skin_joints_.data(),
            skin_weights_.data(), pack(means, means_), pack(frames, frames_), pack(appearance, appearance_)};
}

RigTable PackedRig::pack(const SparseOffsets& offsets, Table& table) const {
    if (!offsets.index) return {};
    const int blocks = (int)rest_.size(), width = (offsets.k + 4) / 4 * 4;
    const size_t rows = (size_t)offsets.starts[offsets.expressions];
    // Rows per (block, expression), then their place: block by block, expression by expression.
    std::vector<uint32_t> counts((size_t)blocks * offsets.expressions);
    for (int e = 0; e < offsets.expressions; e++)
        for (int64_t r = offsets.starts[e]; r < offsets.starts[e + 1]; r++)
            counts[(size_t)(offsets.index[r] / kBlock) * offsets.expressions + e]++;
    uint32_t place = 0;
    for (int block = 0; block < blocks; block++) {
        table.block_start.push_back((uint32_t)table.entries.size());
        for (int e = 0; e < offsets.expressions; e++) {
            uint32_t& count = counts[(size_t)block * offsets.expressions + e];
            if (count) table.entries.push_back({(uint16_t)e, (uint16_t)count, place});
            const uint32_t here = place;
            place += count;
            count = here;
        }
    }
    table.block_start.push_back((uint32_t)table.entries.size());
    table.rows = Buffer<uint16_t>(rows * width);
    std::memset(table.rows.data(), 0, rows * width * sizeof(uint16_t));
    for (int e = 0; e < offsets.expressions; e++)
        for (int64_t r = offsets.starts[e]; r < offsets.starts[e + 1]; r++) {
            const int32_t i = offsets.index[r];
            uint16_t* const row = &table.rows[(size_t)counts[(size_t)(i / kBlock) * offsets.expressions + e]++ * width];
            std::memcpy(row, offsets.values + r * offsets.k, offsets.k * sizeof *row);
            row[width - 1] = (uint16_t)(i % kBlock);
        }
    return {width, table.block_start.data(), table.entries.data(), table.rows.data()};
}

PackedPose::PackedPose(const float* weights, int expressions, const float* transforms, int joints) {
    pose_ = {weights, true, nullptr, nullptr, joints};
    for (int e = 0; e < expressions; e++) pose_.still = pose_.still && weights[e] == 0;
    if (!transforms) return;
    columns_.resize(16 * (size_t)joints);
    turns_.resize(4 * (size_t)joints * joints);
    std::vector<float> quats(4 * (size_t)joints);
    for (int j = 0; j < joints; j++) {
        const float* m = transforms + 16 * (size_t)j;
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 4; c++) columns_[16 * (size_t)j + 4 * c + r] = m[4 * r + c];
        quat_of_matrix(m, 4, &quats[4 * (size_t)j]);
    }
    for (int first = 0; first < joints; first++)
        for (int j = 0; j < joints; j++) {
            const float *a = &quats[4 * (size_t)first], *b = &quats[4 * (size_t)j];
            const float sign = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] < 0 ? -1.f : 1.f;
            for (int k = 0; k < 4; k++) turns_[4 * ((size_t)first * joints + j) + k] = sign * b[k];
        }
    pose_.columns = columns_.data();
    pose_.turns = turns_.data();
}

}  // namespace headsplat
