// One rendered frame: projection, tile lists, compositing, and what the backward pass needs of them.
#pragma once

#include "memory.h"
#include "types.h"

namespace headsplat {

// The inner loops for this machine, chosen once; HEADSPLAT_ISA=v2 or v3 asks for less.
const Kernels& kernels();

struct FrameSettings {
    View view;
    Rules rules;
    bool with_depth;
    int threads;  // 0 = default
};

struct FrameOutput {
    float *image, *alpha, *depth;  // depth null unless wanted
};

class Frame {
   public:
    // Renders `cloud` over `background` (channels) into `out`.
    Frame(const Cloud& cloud, const FrameSettings& settings, const float* background, const FrameOutput& out);

    // Renders a rig in one pose; there is no backward pass of this.
    Frame(const Rig& rig, const Pose& pose, const FrameSettings& settings, const float* background,
          const FrameOutput& out);

    // Gradients of every input from those of the outputs; `out` and `cloud` as they were given to and left by the
    // constructor. background_grad gets (channels) numbers, viewmat_grad 12 numbers, dL/dR row-major then dL/dt.
    void backward(const Cloud& cloud, const FrameOutput& out, const float* grad_image, const float* grad_alpha,
                  const float* grad_depth, const ProjectGradArgs& grads, float* background_grad, float* viewmat_grad) const;

    int count() const { return count_; }
    int channels() const { return channels_; }
    const FrameSettings& settings() const { return settings_; }

   private:
    void render(const Cloud& cloud, const Rig* rig, const Pose* pose, const float* background, const FrameOutput& out);
    TileArgs tile_args(const Cloud& cloud, const float* background, const FrameOutput& out) const;

    FrameSettings settings_;
    int count_, channels_;
    Grid grid_;
    Buffer<Splat> splats_;
    Buffer<uint32_t> pair_base_, chunk_base_, tile_start_, tile_order_;
    Buffer<uint64_t> pairs_;
};

}  // namespace headsplat
