// The Python face of the kernels. Argument checks with readable messages are in headsplat/raster/cpu/__init__.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>

#include <memory>
#include <optional>
#include <tuple>

#include "frame.h"
#include "mesh.h"
#include "pool.h"
#include "rig_pack.h"

namespace nb = nanobind;
using namespace headsplat;

namespace {

using In = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<nb::numpy, T>;

// Hands a buffer to numpy; its memory returns to the pool when the array dies.
template <class T>
Out<T> array(Buffer<T>&& buffer, std::initializer_list<size_t> shape) {
    T* const data = buffer.release();
    nb::capsule owner(data, [](void* memory) noexcept { give_memory(memory); });
    return Out<T>(data, shape, owner);
}

Cloud cloud_of(const In& means, const In& quats, const In& scales, const In& opacities, const In& features) {
    return {means.data(),     quats.data(),          scales.data(), opacities.data(),
            features.data(),  (int)means.shape(0),   (int)features.shape(1)};
}

FrameSettings settings_of(const In& viewmat, const In& K, int width, int height, const In& rules, bool with_depth,
                          int threads) {
    FrameSettings s;
    for (int r = 0; r < 3; r++) {
        for (int c = 0; c < 3; c++) s.view.R[3 * r + c] = viewmat.data()[4 * r + c];
        s.view.t[r] = viewmat.data()[4 * r + 3];
    }
    s.view.fx = K.data()[0];
    s.view.cx = K.data()[2];
    s.view.fy = K.data()[4];
    s.view.cy = K.data()[5];
    s.view.width = width;
    s.view.height = height;
    const float* r = rules.data();
    s.rules = {r[0], r[1], r[2], r[3], r[4], r[5]};
    s.with_depth = with_depth;
    s.threads = threads;
    return s;
}

using Forward = std::tuple<Out<float>, Out<float>, std::optional<Out<float>>, std::unique_ptr<Frame>>;

Forward forward(In means, In quats, In scales, In opacities, In features, In viewmat, In K, int width, int height,
                In background, In rules, bool with_depth, int threads) {
    const Cloud cloud = cloud_of(means, quats, scales, opacities, features);
    const FrameSettings settings = settings_of(viewmat, K, width, height, rules, with_depth, threads);
    const size_t h = height, w = width, pixels = h * w, c = cloud.channels;
    Buffer<float> image(pixels * c), alpha(pixels), depth(with_depth ? pixels : 0);
    std::unique_ptr<Frame> frame;
    {
        nb::gil_scoped_release release;
        frame = std::make_unique<Frame>(cloud, settings, background.data(),
                                        FrameOutput{image.data(), alpha.data(), with_depth ? depth.data() : nullptr});
    }
    std::optional<Out<float>> depth_array;
    if (with_depth) depth_array = array(std::move(depth), {h, w});
    return {array(std::move(image), {h, w, c}), array(std::move(alpha), {h, w}), depth_array, std::move(frame)};
}

// What SparseOffsets holds; the values as the bits of half floats.
using Table = std::optional<std::tuple<nb::ndarray<const int64_t, nb::c_contig, nb::device::cpu>, Ints,
                                       nb::ndarray<const uint16_t, nb::c_contig, nb::device::cpu>>>;

SparseOffsets offsets_of(const Table& table) {
    if (!table) return {};
    const auto& [starts, index, values] = *table;
    return {starts.data(), index.data(), values.data(), (int)starts.shape(0) - 1, (int)values.shape(1)};
}

std::unique_ptr<PackedRig> pack_rig(In means, In quats, In scales, In opacities, In features,
                                    nb::ndarray<const uint8_t, nb::c_contig, nb::device::cpu> joints, In weights,
                                    Table mean_changes, Table frame_changes, Table appearance_changes) {
    const Cloud rest = cloud_of(means, quats, scales, opacities, features);
    return std::make_unique<PackedRig>(rest, joints.data(), weights.data(), offsets_of(mean_changes),
                                       offsets_of(frame_changes), offsets_of(appearance_changes));
}

using Picture = std::tuple<Out<float>, Out<float>, std::optional<Out<float>>>;

Picture render_rig(const PackedRig& rig, In weights, std::optional<In> transforms, In viewmat, In K, int width,
                   int height, In background, In rules, bool with_depth, int threads) {
    const FrameSettings settings = settings_of(viewmat, K, width, height, rules, with_depth, threads);
    const size_t h = height, w = width, pixels = h * w, c = rig.rig().channels;
    Buffer<float> image(pixels * c), alpha(pixels), depth(with_depth ? pixels : 0);
    {
        nb::gil_scoped_release release;
        const PackedPose pose(weights.data(), (int)weights.shape(0), transforms ? transforms->data() : nullptr,
                              transforms ? (int)transforms->shape(0) : 0);
        Frame(rig.rig(), pose.pose(), settings, background.data(),
              FrameOutput{image.data(), alpha.data(), with_depth ? depth.data() : nullptr});
    }
    std::optional<Out<float>> depth_array;
    if (with_depth) depth_array = array(std::move(depth), {h, w});
    return {array(std::move(image), {h, w, c}), array(std::move(alpha), {h, w}), depth_array};
}

using Backward = std::tuple<Out<float>, Out<float>, Out<float>, Out<float>, Out<float>, Out<float>, Out<float>>;

Backward backward(const Frame& frame, In means, In quats, In scales, In opacities, In features, In image, In alpha,
                  std::optional<In> depth, In grad_image, std::optional<In> grad_alpha, std::optional<In> grad_depth) {
    const Cloud cloud = cloud_of(means, quats, scales, opacities, features);
    const size_t n = cloud.count, c = cloud.channels;
    Buffer<float> gm(3 * n), gq(4 * n), gs(3 * n), go(n), gf(c * n), gb(c), gv(12);
    ProjectGradArgs grads{};
    grads.means = gm.data();
    grads.quats = gq.data();
    grads.scales = gs.data();
    grads.opacities = go.data();
    grads.features = gf.data();
    {
        nb::gil_scoped_release release;
        // The outputs are only read here.
        const FrameOutput out{const_cast<float*>(image.data()), const_cast<float*>(alpha.data()),
                              depth ? const_cast<float*>(depth->data()) : nullptr};
        frame.backward(cloud, out, grad_image.data(), grad_alpha ? grad_alpha->data() : nullptr,
                       grad_depth ? grad_depth->data() : nullptr, grads, gb.data(), gv.data());
    }
    return {array(std::move(gm), {n, 3}), array(std::move(gq), {n, 4}), array(std::move(gs), {n, 3}),
            array(std::move(go), {n}),    array(std::move(gf), {n, c}), array(std::move(gb), {c}), array(std::move(gv), {12})};
}

std::tuple<Out<float>, Out<int32_t>, Out<float>> mesh(In points, Ints faces, int width, int height, float near) {
    const size_t h = height, w = width;
    Buffer<float> depth(h * w), barycentrics(3 * h * w);
    Buffer<int32_t> face(h * w);
    {
        nb::gil_scoped_release release;
        rasterize_mesh(points.data(), (int)points.shape(0), faces.data(), (int)faces.shape(0), width, height, near,
                       depth.data(), face.data(), barycentrics.data());
    }
    return {array(std::move(depth), {h, w}), array(std::move(face), {h, w}), array(std::move(barycentrics), {h, w, 3})};
}

}  // namespace

NB_MODULE(_kernel, m) {
    nb::set_leak_warnings(false);  // frames may live until the interpreter ends
    m.doc() = "Compiled rasterization kernels; use headsplat.raster.cpu.";
    m.def("isa", [] { return kernels().name; });
    m.def("threads", &default_threads);
    m.def("set_threads", &set_default_threads);
    nb::class_<Frame>(m, "Frame");
    m.def("forward", &forward);
    m.def("backward", &backward);
    m.def("mesh", &mesh);
    nb::class_<PackedRig>(m, "Rig");
    m.def("pack_rig", &pack_rig);
    m.def("render_rig", &render_rig);
}
