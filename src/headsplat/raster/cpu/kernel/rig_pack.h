// Packing an avatar for animation, and a pose of it.
#pragma once

#include <vector>

#include "memory.h"
#include "types.h"

namespace headsplat {

// Sparse changes as headsplat.avatar.SparseOffsets holds them; index null = none.
struct SparseOffsets {
    const int64_t* starts;   // (E + 1)
    const int32_t* index;    // (M)
    const uint16_t* values;  // (M, k) half floats
    int expressions, k;
};

class PackedRig {
   public:
    // Copies everything. Indices must be in range (checked in Python).
    PackedRig(const Cloud& rest, const uint8_t* skin_joints, const float* skin_weights, const SparseOffsets& means,
              const SparseOffsets& frames, const SparseOffsets& appearance);

    const Rig& rig() const { return rig_; }

   private:
    struct Table {
        std::vector<uint32_t> block_start;
        std::vector<RigEntry> entries;
        Buffer<uint16_t> rows;
    };
    RigTable pack(const SparseOffsets& offsets, Table& table) const;

    Rig rig_;
    Buffer<Block> rest_;
    std::vector<float> features_, skin_weights_;
    std::vector<uint8_t> skin_joints_;
    Table means_, frames_, appearance_;
};

// A pose with the tables that the inner loop looks joints up in.
class PackedPose {
   public:
    // weights (E); transforms (J, 4, 4) `T_world_rest` row-major, or null for none.
    PackedPose(const float* weights, int expressions, const float* transforms, int joints);
    const Pose& pose() const { return pose_; }

   private:
    Pose pose_;
    std::vector<float> columns_, turns_;
};

}  // namespace headsplat
