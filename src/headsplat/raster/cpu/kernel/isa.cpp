// The inner loops, compiled once per instruction set with HEADSPLAT_ISA naming the result.
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "types.h"

#define HEADSPLAT_NAME_(prefix, isa) prefix##isa
#define HEADSPLAT_NAME(prefix, isa) HEADSPLAT_NAME_(prefix, isa)
#define HEADSPLAT_STRING_(isa) #isa
#define HEADSPLAT_STRING(isa) HEADSPLAT_STRING_(isa)

namespace headsplat {
namespace {
#include "project.h"
#include "tile.h"
}  // namespace

extern const Kernels HEADSPLAT_NAME(kernels_, HEADSPLAT_ISA);
const Kernels HEADSPLAT_NAME(kernels_, HEADSPLAT_ISA) = {
    HEADSPLAT_STRING(HEADSPLAT_ISA), project, scratch_floats, forward_tile, backward_tile, backward_project,
};

}  // namespace headsplat
