/** The four shaders: deform (once per Gaussian, into two textures) and draw (128 quads per instance). */

const HEAD = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp usampler2D;
precision highp isampler2D;
`;

/** Gaussians per row of the per-Gaussian textures. */
export const ROW = 1024;
/** Entries per row of the lists of changes. */
export const LIST_ROW = 2048;
/** Quads per instance: drivers pay by the instance, so one instance draws many. */
export const BATCH = 128;

export const deformVertex = `${HEAD}
void main() {
  gl_Position = vec4(float((gl_VertexID & 1) * 4 - 1), float((gl_VertexID >> 1) * 4 - 1), 0.0, 1.0);
}`;

/**
 * docs/avatar-format.md, "To draw a frame". Out: the bits of centre and trace of the covariance; covariance divided
 * by its trace as six 16-bit numbers, and the colour as four 8-bit ones. Integer textures can be drawn into
 * everywhere; float ones need an extension that some phones lack.
 */
export const deformFragment = `${HEAD}
uniform usampler2D uMeans, uSkin, uSpans, uMeanChanges, uFrameChanges, uLookChanges;
uniform isampler2D uQuats;
uniform sampler2D uScales, uColours, uWeights, uJoints;
uniform vec3 uLow, uHigh;
uniform int uCount;
uniform float uShowSeen;
layout(location = 0) out uvec4 oCentre;
layout(location = 1) out uvec4 oShape;

vec4 multiply(vec4 a, vec4 b) {  // Hamilton product, wxyz: first b, then a
  return vec4(a.x * b.x - dot(a.yzw, b.yzw), a.x * b.yzw + b.x * a.yzw + cross(a.yzw, b.yzw));
}
mat3 matrix(vec4 q) {
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
              2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
              2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}
vec2 halves(uint a, uint b) { return unpackHalf2x16(a | b << 16); }
ivec2 entry(uint m) { return ivec2(int(m) % ${LIST_ROW}, int(m) / ${LIST_ROW}); }
float weight(uint e) { return texelFetch(uWeights, ivec2(int(e), 0), 0).x; }

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  if (at.y * ${ROW} + at.x >= uCount) discard;
  uvec4 raw = texelFetch(uMeans, at, 0);
  uvec4 span = texelFetch(uSpans, at, 0);
  uint counts = span.w;

  vec3 move = vec3(0.0);
  for (uint m = span.x, end = span.x + (counts & 1023u); m < end; m++) {
    uvec4 c = texelFetch(uMeanChanges, entry(m), 0);
    float w = weight(c.x);
    if (w != 0.0) move += w * vec3(halves(c.y, c.z), halves(c.w, 0u).x);
  }
  vec3 centre = uLow + vec3(raw.xyz) / 65535.0 * (uHigh - uLow) + move * 1e-3;

  vec4 quat = normalize(vec4(texelFetch(uQuats, at, 0)));
  vec3 scale = texelFetch(uScales, at, 0).xyz * 1e-3;
  vec3 turn = vec3(0.0), grow = vec3(0.0);
  for (uint m = span.y, end = span.y + (counts >> 10 & 1023u); m < end; m++) {
    uvec4 c = texelFetch(uFrameChanges, entry(2u * m), 0);
    float w = weight(c.x);
    if (w == 0.0) continue;
    uvec4 d = texelFetch(uFrameChanges, entry(2u * m + 1u), 0);
    turn += w * vec3(halves(c.y, c.z), halves(c.w, 0u).x);
    grow += w * vec3(halves(d.x, d.y), halves(d.z, 0u).x);
  }
  float angle = length(turn);
  float s = angle > 1e-6 ? sin(0.5 * angle) / angle : 0.5;
  quat = multiply(vec4(cos(0.5 * angle), s * turn), quat);
  scale *= exp(grow);

  vec4 colour = texelFetch(uColours, at, 0);
  for (uint m = span.z, end = span.z + (counts >> 20); m < end; m++) {
    uvec4 c = texelFetch(uLookChanges, entry(2u * m), 0);
    float w = weight(c.x);
    if (w == 0.0) continue;
    uvec4 d = texelFetch(uLookChanges, entry(2u * m + 1u), 0);
    colour += w * vec4(halves(c.y, c.z), halves(c.w, d.x));
  }
  colour = clamp(colour, 0.0, 1.0);
  vec3 tint = mix(vec3(1.0, 0.25, 0.55), vec3(0.2, 0.85, 0.6), float(raw.w) / 255.0);
  colour.rgb = mix(colour.rgb, tint, uShowSeen);

  uvec4 skin = texelFetch(uSkin, at, 0);
  vec4 rowX = vec4(0.0), rowY = vec4(0.0), rowZ = vec4(0.0), pose = vec4(0.0), first;
  for (int k = 0; k < 4; k++) {
    int joint = int(skin[k] >> 8);
    float w = float(skin[k] & 255u) / 255.0;
    if (k > 0 && w == 0.0) continue;
    vec4 q = texelFetch(uJoints, ivec2(3, joint), 0);
    if (k == 0) first = q;
    rowX += w * texelFetch(uJoints, ivec2(0, joint), 0);
    rowY += w * texelFetch(uJoints, ivec2(1, joint), 0);
    rowZ += w * texelFetch(uJoints, ivec2(2, joint), 0);
    pose += (dot(first, q) < 0.0 ? -w : w) * q;
  }
  vec4 p = vec4(centre, 1.0);
  mat3 R = matrix(normalize(multiply(pose, quat)));
  mat3 S = mat3(R[0] * scale.x, R[1] * scale.y, R[2] * scale.z);
  mat3 C = S * transpose(S);
  float trace = C[0][0] + C[1][1] + C[2][2];
  C /= max(trace, 1e-20);
  oCentre = floatBitsToUint(vec4(dot(rowX, p), dot(rowY, p), dot(rowZ, p), trace));
  uvec4 c8 = uvec4(colour * 255.0 + 0.5);
  oShape = uvec4(packSnorm2x16(vec2(C[0][0], C[0][1])), packSnorm2x16(vec2(C[0][2], C[1][1])),
                 packSnorm2x16(vec2(C[1][2], C[2][2])), c8.r | c8.g << 8 | c8.b << 16 | c8.a << 24);
}`;

/** EWA splatting by the rules of docs/conventions.md; a quad ends where its alpha falls under 1/255. */
export const drawVertex = `${HEAD}
uniform usampler2D uCentres, uShapes, uOrder;
uniform mat4 uView;      // world to camera, OpenCV axes
uniform vec4 uLens;      // fx, fy, cx, cy in pixels
uniform vec2 uSize;      // pixels
uniform int uCount;
out vec4 vColour;
out vec2 vOffset;        // in standard deviations

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside: not drawn
  int n = gl_InstanceID * ${BATCH} + (gl_VertexID >> 2);
  if (n >= uCount) return;
  int i = int(texelFetch(uOrder, ivec2(n % ${ROW}, n / ${ROW}), 0).x);
  ivec2 at = ivec2(i % ${ROW}, i / ${ROW});
  vec4 centre = uintBitsToFloat(texelFetch(uCentres, at, 0));
  uvec4 shape = texelFetch(uShapes, at, 0);
  vec3 p = (uView * vec4(centre.xyz, 1.0)).xyz;
  float opacity = float(shape.w >> 24) / 255.0;
  if (p.z < 0.01 || opacity < 1.0 / 255.0) return;

  vec2 a = unpackSnorm2x16(shape.x), b = unpackSnorm2x16(shape.y), c = unpackSnorm2x16(shape.z);
  mat3 C = centre.w * mat3(a.x, a.y, b.x, a.y, b.y, c.x, b.x, c.x, c.y);
  mat3 V = mat3(uView);
  vec2 f = uLens.xy / p.z;
  // The Jacobian's direction stays within the picture, widened by 0.3 of half of it on each side.
  vec2 d = clamp(p.xy / p.z, (-uLens.zw - 0.15 * uSize) / uLens.xy, (1.15 * uSize - uLens.zw) / uLens.xy);
  vec3 jx = vec3(f.x, 0.0, -f.x * d.x) * V;
  vec3 jy = vec3(0.0, f.y, -f.y * d.y) * V;
  vec3 cx = C * jx;
  float xx = dot(jx, cx) + 0.3, xy = dot(jy, cx), yy = dot(jy, C * jy) + 0.3;

  float middle = 0.5 * (xx + yy);
  float spread = length(vec2(0.5 * (xx - yy), xy));
  float large = middle + spread, small = max(middle - spread, 0.1);
  vec2 axis = xx > yy ? vec2(large - yy, xy) : vec2(xy, large - xx);
  axis = spread > 1e-6 ? normalize(axis) : vec2(1.0, 0.0);
  // opacity · exp(-r²/2) = 1/255 at the edge.
  float reach = sqrt(2.0 * log(255.0 * opacity));
  vec2 corner = vec2(float(gl_VertexID & 1), float(gl_VertexID >> 1 & 1)) * 2.0 - 1.0;
  vOffset = corner * reach;
  vec2 pixel = uLens.xy * p.xy / p.z + uLens.zw
    + vOffset.x * sqrt(large) * axis + vOffset.y * sqrt(small) * vec2(-axis.y, axis.x);
  vColour = vec4(float(shape.w & 255u), float(shape.w >> 8 & 255u), float(shape.w >> 16 & 255u), 255.0 * opacity) / 255.0;
  gl_Position = vec4(pixel.x / uSize.x * 2.0 - 1.0, 1.0 - pixel.y / uSize.y * 2.0, 0.0, 1.0);
}`;

export const drawFragment = `${HEAD}
in vec4 vColour;
in vec2 vOffset;
out vec4 oColour;
void main() {
  float alpha = min(0.99, vColour.a * exp(-0.5 * dot(vOffset, vOffset)));
  if (alpha < 1.0 / 255.0) discard;
  oColour = vec4(vColour.rgb * alpha, alpha);
}`;
