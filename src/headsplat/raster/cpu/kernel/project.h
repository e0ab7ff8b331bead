// Projection of Gaussians to splats and its backward pass, kWidth Gaussians at a time.
#pragma once

#include "rig.h"
#include "simd.h"
#include "types.h"

static void load_block(const Cloud& cloud, int first, int count, Block& b) {
    const float *m = cloud.means + 3ll * first, *q = cloud.quats + 4ll * first, *s = cloud.scales + 3ll * first;
    for (int j = 0; j < count; j++) {
        for (int k = 0; k < 3; k++) b.mean[k][j] = m[3 * j + k];
        for (int k = 0; k < 4; k++) b.quat[k][j] = q[4 * j + k];
        for (int k = 0; k < 3; k++) b.scale[k][j] = s[3 * j + k];
        b.opacity[j] = cloud.opacities[first + j];
    }
    for (int j = count; j < (count + kWidth - 1) / kWidth * kWidth; j++) {  // harmless rest of the last vector
        for (int k = 0; k < 3; k++) b.mean[k][j] = b.scale[k][j] = 1.f;
        for (int k = 0; k < 4; k++) b.quat[k][j] = 1.f;
        b.opacity[j] = 0.f;
    }
}

// Everything about kWidth projected Gaussians that the forward or the backward pass needs.
struct Projection {
    Fv z, iz, u, v;          // camera depth, its inverse, x/z and y/z
    Fv ju, jv;               // u and v held inside the margin, where the Jacobian is taken
    Fv x, y;                 // pixels
    Fv q[4], inverse_norm;   // unit quaternion
    Fv Q[3][3], M[3][3];     // rotation, rotation times scales
    Fv A[2][3];              // Jacobian times camera rotation
    Fv U[3], V[3];           // rows of A times M; the 2D covariance is their Gram matrix plus eps2d
    Fv xx, xy, yy, det;      // 2D covariance
};

// The range of x/z and y/z in which the Jacobian is evaluated: the field of view plus a margin.
struct Margin {
    float left, right, top, bottom;
};

static Margin jacobian_margin(const View& w, const Rules& rules) {
    float mx = rules.direction_margin * 0.5f * w.width / w.fx, my = rules.direction_margin * 0.5f * w.height / w.fy;
    return {-w.cx / w.fx - mx, (w.width - w.cx) / w.fx + mx, -w.cy / w.fy - my, (w.height - w.cy) / w.fy + my};
}

HS_INLINE void project_lanes(const View& w, const Rules& rules, const Margin& margin, const Block& b, int j,
                             Projection& p) {
    const float *R = w.R, *t = w.t;
    Fv X = load<kWidth>(&b.mean[0][j]), Y = load<kWidth>(&b.mean[1][j]), Z = load<kWidth>(&b.mean[2][j]);
    Fv cx = R[0] * X + R[1] * Y + R[2] * Z + t[0], cy = R[3] * X + R[4] * Y + R[5] * Z + t[1];
    p.z = R[6] * X + R[7] * Y + R[8] * Z + t[2];
    p.iz = 1.f / p.z;
    p.u = cx * p.iz;
    p.v = cy * p.iz;
    p.ju = vmin(vmax(p.u, splat<kWidth>(margin.left)), splat<kWidth>(margin.right));
    p.jv = vmin(vmax(p.v, splat<kWidth>(margin.top)), splat<kWidth>(margin.bottom));
    p.x = w.fx * p.u + w.cx;
    p.y = w.fy * p.v + w.cy;

    Fv qw = load<kWidth>(&b.quat[0][j]), qx = load<kWidth>(&b.quat[1][j]), qy = load<kWidth>(&b.quat[2][j]),
       qz = load<kWidth>(&b.quat[3][j]);
    p.inverse_norm = 1.f / vsqrt(qw * qw + qx * qx + qy * qy + qz * qz);
    p.q[0] = qw *= p.inverse_norm;
    p.q[1] = qx *= p.inverse_norm;
    p.q[2] = qy *= p.inverse_norm;
    p.q[3] = qz *= p.inverse_norm;
    p.Q[0][0] = 1.f - 2.f * (qy * qy + qz * qz);
    p.Q[0][1] = 2.f * (qx * qy - qw * qz);
    p.Q[0][2] = 2.f * (qx * qz + qw * qy);
    p.Q[1][0] = 2.f * (qx * qy + qw * qz);
    p.Q[1][1] = 1.f - 2.f * (qx * qx + qz * qz);
    p.Q[1][2] = 2.f * (qy * qz - qw * qx);
    p.Q[2][0] = 2.f * (qx * qz - qw * qy);
    p.Q[2][1] = 2.f * (qy * qz + qw * qx);
    p.Q[2][2] = 1.f - 2.f * (qx * qx + qy * qy);
    for (int k = 0; k < 3; k++) {
        Fv s = load<kWidth>(&b.scale[k][j]);
        for (int r = 0; r < 3; r++) p.M[r][k] = p.Q[r][k] * s;
    }
    Fv jx = w.fx * p.iz, jy = w.fy * p.iz;
    for (int k = 0; k < 3; k++) {
        p.A[0][k] = jx * (R[k] - p.ju * R[6 + k]);
        p.A[1][k] = jy * (R[3 + k] - p.jv * R[6 + k]);
    }
    for (int k = 0; k < 3; k++) {
        p.U[k] = p.A[0][0] * p.M[0][k] + p.A[0][1] * p.M[1][k] + p.A[0][2] * p.M[2][k];
        p.V[k] = p.A[1][0] * p.M[0][k] + p.A[1][1] * p.M[1][k] + p.A[1][2] * p.M[2][k];
    }
    Fv uu = p.U[0] * p.U[0] + p.U[1] * p.U[1] + p.U[2] * p.U[2];
    Fv vv = p.V[0] * p.V[0] + p.V[1] * p.V[1] + p.V[2] * p.V[2];
    p.xx = uu + rules.eps2d;
    p.yy = vv + rules.eps2d;
    p.xy = p.U[0] * p.V[0] + p.U[1] * p.V[1] + p.U[2] * p.V[2];
    // |U x V|^2 instead of uu * vv - uv^2: no cancellation for long thin splats, never negative.
    Fv n0 = p.U[1] * p.V[2] - p.U[2] * p.V[1], n1 = p.U[2] * p.V[0] - p.U[0] * p.V[2],
       n2 = p.U[0] * p.V[1] - p.U[1] * p.V[0];
    p.det = n0 * n0 + n1 * n1 + n2 * n2 + rules.eps2d * (uu + vv) + rules.eps2d * rules.eps2d;
}

static uint32_t project(const ProjectArgs& args, int first, int last, uint32_t* tile_counts) {
    const View& w = args.view;
    const Rules& rules = args.rules;
    const Margin margin = jacobian_margin(w, rules);
    const int log2 = args.grid.size_log2, columns = args.grid.columns;
    const Fv zero = {}, width = splat<kWidth>(w.width), height = splat<kWidth>(w.height);
    Block block;
    alignas(64) float px[kBlock], py[kBlock], a[kBlock], b[kBlock], c[kBlock], depth[kBlock];
    alignas(64) int32_t x0[kBlock], x1[kBlock], y0[kBlock], y1[kBlock];
    uint32_t pairs = 0;

    const int step = args.rig ? kBlock : kShortBlock;
    for (int start = first; start < last; start += step) {
        const int count = last - start < step ? last - start : step;
        if (args.rig)
            animate_block(*args.rig, *args.pose, start, count, block, args.features);
        else
            load_block(args.cloud, start, count, block);
        const float* rgb = args.cloud.features + 3ll * start;
        for (int j = 0; j < count; j += kWidth) {
            Projection p;
            project_lanes(w, rules, margin, block, j, p);
            Fv opacity = load<kWidth>(&block.opacity[j]);
            // d' conic d <= 2 ln(opacity / alpha_min) bounds the visible ellipse; a little more for rounding.
            Fv reach = (log2_rough<kWidth>(vmax(opacity, splat<kWidth>(1e-20f)) / rules.alpha_min) + 2e-3f) *
                       (2.f / kLog2e);
            Fv rx = vsqrt(vmax(reach * p.xx, zero)) + 1e-3f, ry = vsqrt(vmax(reach * p.yy, zero)) + 1e-3f;
            Fv big = splat<kWidth>(1e9f);
            // Written so that any NaN or infinity makes it false.
            Iv visible = (p.z > rules.near) & (opacity >= rules.alpha_min) & (opacity < big) & (p.det > 0.f) & (rx < big) & (ry < big) &
                         (p.x < big) & (p.x > -big) & (p.y < big) & (p.y > -big);
            Fv left = vmin(vmax(p.x - rx + 0.5f, zero), width), right = vmin(vmax(p.x + rx + 0.5f, zero), width);
            Fv top = vmin(vmax(p.y - ry + 0.5f, zero), height), bottom = vmin(vmax(p.y + ry + 0.5f, zero), height);
            left = visible ? left : zero;  // an undefined conversion is avoided
            top = visible ? top : zero;
            right = visible ? right : zero;
            bottom = visible ? bottom : zero;
            Fv scale = kLog2e / p.det;
            *(Iv*)&x0[j] = __builtin_convertvector(left, Iv);
            *(Iv*)&x1[j] = __builtin_convertvector(right, Iv) - 1;
            *(Iv*)&y0[j] = __builtin_convertvector(top, Iv);
            *(Iv*)&y1[j] = __builtin_convertvector(bottom, Iv) - 1;
            *(Fv*)&px[j] = p.x;
            *(Fv*)&py[j] = p.y;
            *(Fv*)&a[j] = p.yy * scale * -0.5f;
            *(Fv*)&b[j] = p.xy * scale;
            *(Fv*)&c[j] = p.xx * scale * -0.5f;
            *(Fv*)&depth[j] = p.z;
        }
        for (int j = 0; j < count; j++) {
            Splat& s = args.splats[start + j];
            args.pair_base[start + j] = pairs;
            if (x1[j] < x0[j] || y1[j] < y0[j]) {
                s.x0 = s.y0 = 0;
                s.x1 = s.y1 = -1;
                continue;
            }
            s.x = px[j];
            s.y = py[j];
            s.a = a[j];
            s.b = b[j];
            s.c = c[j];
            s.opacity = block.opacity[j];
            s.x0 = (int16_t)x0[j];
            s.x1 = (int16_t)x1[j];
            s.y0 = (int16_t)y0[j];
            s.y1 = (int16_t)y1[j];
            s.depth = depth[j];
            if (args.cloud.channels == 3)
                for (int k = 0; k < 3; k++) s.rgb[k] = rgb[3 * j + k];
            const int tx0 = x0[j] >> log2, tx1 = x1[j] >> log2, ty0 = y0[j] >> log2, ty1 = y1[j] >> log2;
            for (int ty = ty0; ty <= ty1; ty++)
                for (int tx = tx0; tx <= tx1; tx++) tile_counts[ty * columns + tx]++;
            pairs += (tx1 - tx0 + 1) * (ty1 - ty0 + 1);
        }
    }
    return pairs;
}

// Sums the records of the Gaussians of a block, tile after tile in a fixed order, and spreads the features'.
static void gather_records(const ProjectGradArgs& args, int start, int count, float (*moment)[kBlock],
                           float* depth) {
    const int log2 = args.grid.size_log2, channels = args.cloud.channels;
    for (int j = 0; j < count; j++) {
        const Splat& s = args.splats[start + j];
        float sums[kMoments] = {}, z = 0;
        float* features = args.features + (int64_t)channels * (start + j);
        for (int k = 0; k < channels; k++) features[k] = 0;
        if (s.x1 >= s.x0) {
            const uint32_t base = args.chunk_base[(start + j) / args.chunk_size] + args.pair_base[start + j];
            const int n = ((s.x1 >> log2) - (s.x0 >> log2) + 1) * ((s.y1 >> log2) - (s.y0 >> log2) + 1);
            const float* record = args.records + (size_t)base * args.record_size;
            for (int i = 0; i < n; i++, record += args.record_size) {
                for (int k = 0; k < kMoments; k++) sums[k] += record[k];
                for (int k = 0; k < channels; k++) features[k] += record[kMoments + k];
                if (args.with_depth) z += record[kMoments + channels];
            }
        }
        for (int k = 0; k < kMoments; k++) moment[k][j] = sums[k];
        depth[j] = z;
    }
}

static void backward_project(const ProjectGradArgs& args, int first, int last, double* viewmat_grad) {
    const View& w = args.view;
    const Margin margin = jacobian_margin(w, args.rules);
    const Fv zero = {};
    Block block, grad;
    alignas(64) float moment[kMoments][kBlock], grad_depth[kBlock];
    Fv view_sum[12];
    for (int k = 0; k < 12; k++) view_sum[k] = zero;

    for (int start = first; start < last; start += kShortBlock) {
        const int count = last - start < kShortBlock ? last - start : kShortBlock;
        load_block(args.cloud, start, count, block);
        gather_records(args, start, count, moment, grad_depth);
        for (int j = 0; j < count; j += kWidth) {
            Iv drawn;
            for (int l = 0; l < kWidth; l++)
                drawn[l] = j + l < count && args.splats[start + j + l].x1 >= args.splats[start + j + l].x0 ? -1 : 0;
            Projection p;
            project_lanes(w, args.rules, margin, block, j, p);
            Fv m[kMoments];
            for (int k = 0; k < kMoments; k++) m[k] = load<kWidth>(&moment[k][j]);
            const Fv opacity = load<kWidth>(&block.opacity[j]);

            // exponent = -(a dx^2 + 2 b dx dy + c dy^2) / 2 with the conic (a, b, c)
            Fv inverse = 1.f / p.det, a = p.yy * inverse, b = -p.xy * inverse, c = p.xx * inverse;
            Fv gx = a * m[1] + b * m[2], gy = b * m[1] + c * m[2];
            // dL/dcov = -conic dL/dconic conic, all three symmetric
            Fv ga = -0.5f * m[3], gb = -0.5f * m[4], gc = -0.5f * m[5];
            Fv h00 = a * ga + b * gb, h01 = a * gb + b * gc, h10 = b * ga + c * gb, h11 = b * gb + c * gc;
            Fv gxx = -(h00 * a + h01 * b), gxy = -(h00 * b + h01 * c), gyy = -(h10 * b + h11 * c);

            Fv gM[3][3], gA[2][3];
            for (int r = 0; r < 3; r++) gA[0][r] = gA[1][r] = zero;
            for (int k = 0; k < 3; k++) {
                Fv gU = 2.f * (gxx * p.U[k] + gxy * p.V[k]), gV = 2.f * (gxy * p.U[k] + gyy * p.V[k]);
                for (int r = 0; r < 3; r++) {
                    gM[r][k] = p.A[0][r] * gU + p.A[1][r] * gV;
                    gA[0][r] += p.M[r][k] * gU;
                    gA[1][r] += p.M[r][k] * gV;
                }
            }
            Fv G[3][3];  // dL/dQ
            for (int k = 0; k < 3; k++) {
                Fv s = load<kWidth>(&block.scale[k][j]);
                Fv gs = gM[0][k] * p.Q[0][k] + gM[1][k] * p.Q[1][k] + gM[2][k] * p.Q[2][k];
                store<kWidth>(&grad.scale[k][j], drawn ? gs : zero);
                for (int r = 0; r < 3; r++) G[r][k] = gM[r][k] * s;
            }
            const Fv qw = p.q[0], qx = p.q[1], qy = p.q[2], qz = p.q[3];
            Fv gq[4];
            gq[0] = 2.f * (qx * (G[2][1] - G[1][2]) + qy * (G[0][2] - G[2][0]) + qz * (G[1][0] - G[0][1]));
            gq[1] = 2.f * (qy * (G[0][1] + G[1][0]) + qz * (G[0][2] + G[2][0]) + qw * (G[2][1] - G[1][2]) -
                           2.f * qx * (G[1][1] + G[2][2]));
            gq[2] = 2.f * (qx * (G[0][1] + G[1][0]) + qz * (G[1][2] + G[2][1]) + qw * (G[0][2] - G[2][0]) -
                           2.f * qy * (G[0][0] + G[2][2]));
            gq[3] = 2.f * (qx * (G[0][2] + G[2][0]) + qy * (G[1][2] + G[2][1]) + qw * (G[1][0] - G[0][1]) -
                           2.f * qz * (G[0][0] + G[1][1]));
            Fv along = gq[0] * qw + gq[1] * qx + gq[2] * qy + gq[3] * qz;
            for (int k = 0; k < 4; k++) {
                Fv g = (gq[k] - along * p.q[k]) * p.inverse_norm;
                store<kWidth>(&grad.quat[k][j], drawn ? g : zero);
            }
            store<kWidth>(&grad.opacity[j], drawn ? m[0] / opacity : zero);

            // A[0] = fx/z (R0 - ju R2), A[1] = fy/z (R1 - jv R2)
            const float* R = w.R;
            Fv jx = w.fx * p.iz, jy = w.fy * p.iz;
            Fv g0 = zero, g1 = zero, gju = zero, gjv = zero;  // dL/d(R0 row combination scale) and of ju, jv
            for (int k = 0; k < 3; k++) {
                g0 += gA[0][k] * p.A[0][k];
                g1 += gA[1][k] * p.A[1][k];
                gju -= gA[0][k] * R[6 + k];
                gjv -= gA[1][k] * R[6 + k];
            }
            gju *= jx;
            gjv *= jy;
            Iv inside_u = (p.u >= margin.left) & (p.u <= margin.right);
            Iv inside_v = (p.v >= margin.top) & (p.v <= margin.bottom);
            Fv gu = gx * w.fx + (inside_u ? gju : zero), gv = gy * w.fy + (inside_v ? gjv : zero);
            Fv gcam[3];
            gcam[0] = gu * p.iz;
            gcam[1] = gv * p.iz;
            gcam[2] = load<kWidth>(&grad_depth[j]) - (gu * p.u + gv * p.v + g0 + g1) * p.iz;
            for (int k = 0; k < 3; k++) gcam[k] = drawn ? gcam[k] : zero;
            for (int k = 0; k < 3; k++) {
                Fv g = R[k] * gcam[0] + R[3 + k] * gcam[1] + R[6 + k] * gcam[2];
                store<kWidth>(&grad.mean[k][j], g);
                Fv mean = load<kWidth>(&block.mean[k][j]);
                Fv gRx = jx * gA[0][k], gRy = jy * gA[1][k], gRz = -(p.ju * gRx + p.jv * gRy);
                view_sum[k] += drawn ? gcam[0] * mean + gRx : zero;
                view_sum[3 + k] += drawn ? gcam[1] * mean + gRy : zero;
                view_sum[6 + k] += drawn ? gcam[2] * mean + gRz : zero;
                view_sum[9 + k] += gcam[k];
            }
        }
        float *gm = args.means + 3ll * start, *gq = args.quats + 4ll * start, *gs = args.scales + 3ll * start;
        for (int j = 0; j < count; j++) {
            for (int k = 0; k < 3; k++) gm[3 * j + k] = grad.mean[k][j];
            for (int k = 0; k < 4; k++) gq[4 * j + k] = grad.quat[k][j];
            for (int k = 0; k < 3; k++) gs[3 * j + k] = grad.scale[k][j];
            args.opacities[start + j] = grad.opacity[j];
        }
    }
    for (int k = 0; k < 12; k++) viewmat_grad[k] = sum(view_sum[k]);
}
