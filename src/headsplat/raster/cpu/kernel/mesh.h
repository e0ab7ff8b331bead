// A z-buffer for triangle meshes.
#pragma once

#include <cstdint>

namespace headsplat {

// Draws triangles given in pixels and camera depth.
//
// points (V, 3): x, y in pixels, z > 0 depth; triangles with a corner at z <= near or not finite are skipped.
// Outputs per pixel: depth (infinity where empty), face (-1 where empty), perspective-correct barycentrics.
void rasterize_mesh(const float* points, int point_count, const int32_t* faces, int face_count, int width, int height,
                    float near, float* depth, int32_t* face, float* barycentrics);

}  // namespace headsplat
