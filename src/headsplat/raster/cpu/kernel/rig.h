// Animation of a block of a rig: blendshapes, then linear blend skinning of centres and rotations.
#pragma once

#include "simd.h"
#include "types.h"

// Adds the weighted changes of one table to sums (kBlock rows of `wide` vectors of four); false if there are none.
static bool add_changes(const RigTable& table, const Pose& pose, int block, F4* sums, int wide) {
    bool changed = false;
    for (uint32_t i = table.block_start[block]; i < table.block_start[block + 1]; i++) {
        const RigEntry entry = table.entries[i];
        const float weight = pose.weights[entry.expression];
        if (weight == 0.f) continue;
        changed = true;
        const uint16_t* row = table.rows + (size_t)entry.first_row * table.row_halves;
        if (wide == 1) {
            for (int r = 0; r < entry.rows; r++, row += 4) sums[row[3]] += weight * half4(row);
        } else {
            for (int r = 0; r < entry.rows; r++, row += table.row_halves) {
                F4* const sum = sums + row[table.row_halves - 1] * wide;
                for (int k = 0; k < wide; k++) sum[k] += weight * half4(row + 4 * k);
            }
        }
    }
    return changed;
}

// Asks for a block's rows of the expressions in use: they lie in many places, and each would be waited for.
// Inlined by force: a compiler that sees a function do nothing but prefetch drops the call.
HS_INLINE void fetch_changes(const RigTable& table, const Pose& pose, int block) {
    for (uint32_t i = table.block_start[block]; i < table.block_start[block + 1]; i++) {
        const RigEntry entry = table.entries[i];
        if (pose.weights[entry.expression] == 0.f) continue;
        const uint16_t* const rows = table.rows + (size_t)entry.first_row * table.row_halves;
        const int halves = entry.rows * table.row_halves;
        for (int at = 0; at < halves; at += 32) __builtin_prefetch(rows + at);
        __builtin_prefetch(rows + halves - 1);
    }
}

// Spreads four vectors, `stride` apart, over columns j..j+3 of four rows.
HS_INLINE void spread4(const F4* from, int stride, float (*rows)[kBlock], int j) {
    F4 a = from[0], b = from[stride], c = from[2 * stride], d = from[3 * stride];
    transpose4(a, b, c, d);
    store<4>(&rows[0][j], a);
    store<4>(&rows[1][j], b);
    store<4>(&rows[2][j], c);
    store<4>(&rows[3][j], d);
}

HS_INLINE Fv clip01(Fv x) { return vmin(vmax(x, Fv{}), splat<kWidth>(1.f)); }

// quat = a * quat, Hamilton product.
HS_INLINE void turn_by(const Fv a[4], float (*quat)[kBlock], int j) {
    const Fv w = load<kWidth>(&quat[0][j]), x = load<kWidth>(&quat[1][j]), y = load<kWidth>(&quat[2][j]),
             z = load<kWidth>(&quat[3][j]);
    store<kWidth>(&quat[0][j], a[0] * w - a[1] * x - a[2] * y - a[3] * z);
    store<kWidth>(&quat[1][j], a[0] * x + a[1] * w + a[2] * z - a[3] * y);
    store<kWidth>(&quat[2][j], a[0] * y - a[1] * z + a[2] * w + a[3] * x);
    store<kWidth>(&quat[3][j], a[0] * z + a[1] * y - a[2] * x + a[3] * w);
}

// The unit quaternion of a rotation vector, to 1e-7 for angles up to a full turn.
HS_INLINE void quat_of_vector(Fv x, Fv y, Fv z, Fv out[4]) {
    // Series of cosine and sinc at a quarter of the angle, then one doubling.
    const Fv t = (x * x + y * y + z * z) * (1.f / 16);
    Fv c = 1.f + t * (-1.f / 2 + t * (1.f / 24 + t * (-1.f / 720 + t * (1.f / 40320 + t * (-1.f / 3628800)))));
    Fv s = 1.f + t * (-1.f / 6 + t * (1.f / 120 + t * (-1.f / 5040 + t * (1.f / 362880 + t * (-1.f / 39916800)))));
    s *= 0.25f;
    const Fv twice = 2.f * c * s;
    out[0] = c * c - 16.f * t * s * s;
    out[1] = twice * x;
    out[2] = twice * y;
    out[3] = twice * z;
}

// Brings Gaussians start..start+count-1 of a rig into one pose. start is a multiple of kBlock.
static void animate_block(const Rig& rig, const Pose& pose, int start, int count, Block& out, float* features) {
    const int block = start / kBlock;
    const Block& rest = rig.rest[block];
    alignas(64) F4 sums[kBlock * 2];
    if (!pose.still && (int64_t)start + kBlock < rig.count) {
        if (rig.means.row_halves) fetch_changes(rig.means, pose, block + 1);
        if (rig.frames.row_halves) fetch_changes(rig.frames, pose, block + 1);
    }

    // Centres stay four to a vector until after skinning; the fourth number is not used.
    F4 mean[kBlock];
    for (int j = 0; j < kBlock; j += 4) {
        mean[j] = load<4>(&rest.mean[0][j]);
        mean[j + 1] = load<4>(&rest.mean[1][j]);
        mean[j + 2] = load<4>(&rest.mean[2][j]);
        mean[j + 3] = F4{};
        transpose4(mean[j], mean[j + 1], mean[j + 2], mean[j + 3]);
    }
    if (!pose.still && rig.means.row_halves) add_changes(rig.means, pose, block, mean, 1);

    __builtin_memcpy(out.quat, rest.quat, sizeof out.quat);
    __builtin_memcpy(out.scale, rest.scale, sizeof out.scale);
    __builtin_memcpy(out.opacity, rest.opacity, sizeof out.opacity);
    if (!pose.still && rig.frames.row_halves) {
        for (int j = 0; j < kBlock * 2; j++) sums[j] = F4{};
        if (add_changes(rig.frames, pose, block, sums, 2)) {
            float change[8][kBlock];  // the last two are not used
            for (int j = 0; j < kBlock; j += 4)
                for (int half = 0; half < 2; half++) spread4(sums + 2 * j + half, 2, change + 4 * half, j);
            for (int j = 0; j < kBlock; j += kWidth) {
                Fv turn[4];
                quat_of_vector(load<kWidth>(&change[0][j]), load<kWidth>(&change[1][j]), load<kWidth>(&change[2][j]),
                               turn);
                turn_by(turn, out.quat, j);
                for (int k = 0; k < 3; k++) {
                    const Fv grow = exp2v<kWidth>(vmin(load<kWidth>(&change[3 + k][j]) * kLog2e, splat<kWidth>(126.f)));
                    store<kWidth>(&out.scale[k][j], load<kWidth>(&out.scale[k][j]) * grow);
                }
            }
        }
    }

    if (features) {  // there is a table of appearance changes, and something is expressed
        const int channels = rig.channels, wide = rig.appearance.row_halves / 4;
        float* const to = features + (size_t)channels * start;
        const float* const from = rig.features + (size_t)channels * start;
        if (wide <= 2) {
            for (int j = 0; j < kBlock * 2; j++) sums[j] = F4{};
            add_changes(rig.appearance, pose, block, sums, wide);
            const float* change = reinterpret_cast<const float*>(sums);
            for (int j = 0; j < count; j++, change += 4 * wide) {
                for (int k = 0; k < channels; k++) to[channels * j + k] = from[channels * j + k] + change[k];
                out.opacity[j] += change[channels];
            }
        } else {
            for (int i = 0; i < channels * count; i++) to[i] = from[i];
            for (uint32_t i = rig.appearance.block_start[block]; i < rig.appearance.block_start[block + 1]; i++) {
                const RigEntry entry = rig.appearance.entries[i];
                const float weight = pose.weights[entry.expression];
                const uint16_t* row = rig.appearance.rows + (size_t)entry.first_row * rig.appearance.row_halves;
                for (int r = 0; weight != 0.f && r < entry.rows; r++, row += rig.appearance.row_halves) {
                    const int j = row[rig.appearance.row_halves - 1];
                    for (int k = 0; k <= channels; k++) {
                        const float change = weight * half4(row + k / 4 * 4)[k % 4];
                        (k < channels ? to[channels * j + k] : out.opacity[j]) += change;
                    }
                }
            }
        }
        for (int i = 0; channels == 3 && i < channels * count; i++) to[i] = to[i] < 0.f ? 0.f : to[i] > 1.f ? 1.f : to[i];
        for (int j = 0; j < kBlock; j += kWidth)
            store<kWidth>(&out.opacity[j], clip01(load<kWidth>(&out.opacity[j])));
    }

    if (pose.columns) {
        alignas(64) float turn[4][kBlock];
        F4 turns_of[kBlock];
        const uint8_t* joints = rig.skin_joints + 4ll * start;
        const float* weights = rig.skin_weights + 4ll * start;
        for (int j = 0; j < count; j++, joints += 4, weights += 4) {
            F4 columns[4], quat;
            const float* turns = pose.turns + 4ll * joints[0] * pose.joints;
            const float* matrix = pose.columns + 16 * joints[0];
            for (int c = 0; c < 4; c++) columns[c] = weights[0] * load<4>(matrix + 4 * c);
            quat = weights[0] * load<4>(turns + 4 * joints[0]);
            for (int k = 1; k < 4 && weights[k] != 0.f; k++) {
                matrix = pose.columns + 16 * joints[k];
                for (int c = 0; c < 4; c++) columns[c] += weights[k] * load<4>(matrix + 4 * c);
                quat += weights[k] * load<4>(turns + 4 * joints[k]);
            }
            const F4 m = mean[j];
            mean[j] = columns[0] * m[0] + columns[1] * m[1] + columns[2] * m[2] + columns[3];
            turns_of[j] = quat;  // its length cancels in the projection
        }
        for (int j = count; j < kBlock; j++) turns_of[j] = splat<4>(1.f);
        for (int j = 0; j < kBlock; j += 4) spread4(turns_of + j, 1, turn, j);
        for (int j = 0; j < kBlock; j += kWidth) {
            const Fv t[4] = {load<kWidth>(&turn[0][j]), load<kWidth>(&turn[1][j]), load<kWidth>(&turn[2][j]),
                             load<kWidth>(&turn[3][j])};
            turn_by(t, out.quat, j);
        }
    }
    for (int j = 0; j < kBlock; j += 4) {
        transpose4(mean[j], mean[j + 1], mean[j + 2], mean[j + 3]);
        for (int k = 0; k < 3; k++) store<4>(&out.mean[k][j], mean[j + k]);
    }
}
