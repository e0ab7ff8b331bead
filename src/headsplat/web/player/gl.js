/** The graphics card's side of one avatar: its textures, the deform pass and the draw pass. */

import { changesByGaussian } from "./rig.js";
import { BATCH, LIST_ROW, ROW, deformFragment, deformVertex, drawFragment, drawVertex } from "./shaders.js";

/** The graphics card or its driver cannot do it; `message` says what to do. */
export class GraphicsError extends Error {}

const pad = (data, Type, width, height, channels) => {
  const out = new Type(width * height * channels);
  out.set(data);
  return out;
};

/** Everything about one avatar that lives on the card. A lost context takes it all: make a new Renderer. */
export class Renderer {
  /**
   * @param {WebGL2RenderingContext} gl
   * @param {object} avatar from `parseAvatar`
   */
  constructor(gl, avatar) {
    this.gl = gl;
    this.count = avatar.count;
    this.rows = Math.ceil(avatar.count / ROW);
    this.textureBytes = 0;
    this.textures = [];
    this.low = avatar.bounds.subarray(0, 3);
    this.high = avatar.bounds.subarray(3, 6);
    this.expressions = Math.max(1, avatar.expressions.length);
    this.joints = avatar.joints.length;

    this.deformProgram = this.#program(deformVertex, deformFragment);
    this.drawProgram = this.#program(drawVertex, drawFragment);
    this.inputs = this.#upload(avatar);
    this.centres = this.#texture(ROW, this.rows, gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT, 16);
    this.shapes = this.#texture(ROW, this.rows, gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT, 16);
    this.order = this.#texture(ROW, this.rows, gl.R32UI, gl.RED_INTEGER, gl.UNSIGNED_INT, 4);
    this.orderData = new Uint32Array(ROW * this.rows);
    this.ordered = 0;

    this.frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    [this.centres, this.shapes].forEach((texture, i) => {
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
    });
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
    if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) {
      throw new GraphicsError(
        "This graphics driver refuses to draw into integer textures; update it or try another browser.",
      );
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);

    this.vertices = gl.createVertexArray();
    gl.bindVertexArray(this.vertices);
    this.corners = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.corners);
    const quad = [0, 1, 2, 2, 1, 3];
    const indices = Uint16Array.from({ length: BATCH * 6 }, (_, i) => Math.floor(i / 6) * 4 + quad[i % 6]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
  }

  /**
   * Pass 1: move every Gaussian.
   *
   * @param {Float32Array} weights E
   * @param {Float32Array} joints J × 16 from `jointTransforms`
   * @param {number} showSeen 0..1: tint what the photo showed green and what was invented red
   */
  deform(weights, joints, showSeen = 0) {
    const { gl, deformProgram: program, inputs } = this;
    this.#write(inputs.uWeights, this.expressions, 1, gl.RED, gl.FLOAT, weights);
    this.#write(inputs.uJoints, 4, this.joints, gl.RGBA, gl.FLOAT, joints);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.viewport(0, 0, ROW, this.rows);
    gl.disable(gl.BLEND);
    gl.useProgram(program.id);
    this.#bind(program, inputs);
    gl.uniform3fv(program.at("uLow"), this.low);
    gl.uniform3fv(program.at("uHigh"), this.high);
    gl.uniform1i(program.at("uCount"), this.count);
    gl.uniform1f(program.at("uShowSeen"), showSeen);
    gl.bindVertexArray(this.vertices);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }

  /** Take the order to draw in, farthest first; it may leave Gaussians out. */
  setOrder(order) {
    this.orderData.set(order);
    this.ordered = order.length;
    this.#write(this.order, ROW, this.rows, this.gl.RED_INTEGER, this.gl.UNSIGNED_INT, this.orderData);
  }

  /**
   * Pass 2: draw into the canvas, premultiplied, over a transparent background.
   *
   * @param {{viewmat: number[], fx: number, fy: number, cx: number, cy: number}} camera row-major 4×4, canvas pixels
   */
  draw(camera) {
    const { gl, drawProgram: program } = this;
    const { drawingBufferWidth: width, drawingBufferHeight: height } = gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.useProgram(program.id);
    this.#bind(program, { uCentres: this.centres, uShapes: this.shapes, uOrder: this.order });
    gl.uniformMatrix4fv(program.at("uView"), true, camera.viewmat);
    gl.uniform4f(program.at("uLens"), camera.fx, camera.fy, camera.cx, camera.cy);
    gl.uniform2f(program.at("uSize"), width, height);
    gl.uniform1i(program.at("uCount"), this.ordered);
    gl.bindVertexArray(this.vertices);
    gl.drawElementsInstanced(gl.TRIANGLES, BATCH * 6, gl.UNSIGNED_SHORT, 0, Math.ceil(this.ordered / BATCH));
    gl.bindVertexArray(null);
  }

  /** Read pass 1 back, for tests: means N × 3, covariances N × 6 (xx xy xz yy yz zz), colours N × 4. */
  readDeformed() {
    const { gl, count } = this;
    const texels = ROW * this.rows * 4;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    const [centreBits, shapes] = [gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1].map((attachment) => {
      const pixels = new Uint32Array(texels);
      gl.readBuffer(attachment);
      gl.readPixels(0, 0, ROW, this.rows, gl.RGBA_INTEGER, gl.UNSIGNED_INT, pixels);
      return pixels;
    });
    const centres = new Float32Array(centreBits.buffer);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    const means = new Float32Array(count * 3);
    const covariances = new Float32Array(count * 6);
    const colours = new Float32Array(count * 4);
    const signed = new Int16Array(shapes.buffer);
    const bytes = new Uint8Array(shapes.buffer);
    for (let i = 0; i < count; i++) {
      means.set(centres.subarray(i * 4, i * 4 + 3), i * 3);
      for (let c = 0; c < 6; c++) covariances[i * 6 + c] = (signed[i * 8 + c] / 32767) * centres[i * 4 + 3];
      for (let c = 0; c < 4; c++) colours[i * 4 + c] = bytes[i * 16 + 12 + c] / 255;
    }
    return { means, covariances, colours };
  }

  dispose() {
    const { gl } = this;
    for (const texture of this.textures) gl.deleteTexture(texture);
    gl.deleteFramebuffer(this.frame);
    gl.deleteBuffer(this.corners);
    gl.deleteVertexArray(this.vertices);
    gl.deleteProgram(this.deformProgram.id);
    gl.deleteProgram(this.drawProgram.id);
  }

  #upload(avatar) {
    const { gl, count: N, rows } = this;
    const { channels: C, offsets } = avatar;
    const cells = ROW * rows;
    const means = new Uint16Array(cells * 4);
    const scales = new Uint16Array(cells * 4);
    const skin = new Uint16Array(cells * 4);
    const colours = new (avatar.featuresAreHalf ? Uint16Array : Uint8Array)(cells * 4);
    const spans = new Uint32Array(cells * 4);
    const lists = [
      changesByGaussian(offsets.means, N, [0, 1, 2]),
      changesByGaussian(offsets.frames, N, [0, 1, 2, 3, 4, 5]),
      changesByGaussian(offsets.appearance, N, [0, 1, 2, C]),
    ];
    if (this.expressions > 1023)
      throw new GraphicsError("The avatar has more than 1023 expressions, too many for this player.");
    for (let i = 0; i < N; i++) {
      for (let c = 0; c < 3; c++) {
        means[i * 4 + c] = avatar.means[i * 3 + c];
        scales[i * 4 + c] = avatar.scales[i * 3 + c];
        colours[i * 4 + c] = avatar.features[i * C + c];
        spans[i * 4 + c] = lists[c].starts[i];
        spans[i * 4 + 3] |= (lists[c].starts[i + 1] - lists[c].starts[i]) << (10 * c);
      }
      means[i * 4 + 3] = avatar.seen[i];
      colours[i * 4 + 3] = avatar.featuresAreHalf ? halfOfByte(avatar.opacities[i]) : avatar.opacities[i];
      for (let k = 0; k < 4; k++)
        skin[i * 4 + k] = (avatar.skinJoints[i * 4 + k] << 8) | avatar.skinWeights[i * 4 + k];
    }
    const grid = (data, internal, format, type, bytes) =>
      this.#texture(ROW, rows, internal, format, type, bytes, data);
    const list = ({ entries }) => {
      const height = Math.max(1, Math.ceil(entries.length / 4 / LIST_ROW));
      if (height > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
        throw new GraphicsError(
          "The avatar's expressions do not fit into this graphics card; make it with fewer Gaussians.",
        );
      }
      const data = pad(entries, Uint16Array, LIST_ROW, height, 4);
      return this.#texture(LIST_ROW, height, gl.RGBA16UI, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, 8, data);
    };
    const quats = pad(avatar.quats, Int16Array, ROW, rows, 4);
    return {
      uMeans: grid(means, gl.RGBA16UI, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, 8),
      uQuats: grid(quats, gl.RGBA16I, gl.RGBA_INTEGER, gl.SHORT, 8),
      uScales: grid(scales, gl.RGBA16F, gl.RGBA, gl.HALF_FLOAT, 8),
      uColours: avatar.featuresAreHalf
        ? grid(colours, gl.RGBA16F, gl.RGBA, gl.HALF_FLOAT, 8)
        : grid(colours, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, 4),
      uSkin: grid(skin, gl.RGBA16UI, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, 8),
      uSpans: grid(spans, gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT, 16),
      uMeanChanges: list(lists[0]),
      uFrameChanges: list(lists[1]),
      uLookChanges: list(lists[2]),
      uWeights: this.#texture(this.expressions, 1, gl.R32F, gl.RED, gl.FLOAT, 4),
      uJoints: this.#texture(4, this.joints, gl.RGBA32F, gl.RGBA, gl.FLOAT, 16),
    };
  }

  #texture(width, height, internal, format, type, bytes, data = null) {
    const { gl } = this;
    const texture = gl.createTexture();
    this.textures.push(texture);
    this.textureBytes += width * height * bytes;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    for (const wrap of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T])
      gl.texParameteri(gl.TEXTURE_2D, wrap, gl.CLAMP_TO_EDGE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, format, type, data);
    return texture;
  }

  #write(texture, width, height, format, type, data) {
    const { gl } = this;
    if (!data.length) return;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, format, type, data);
  }

  #bind(program, textures) {
    const { gl } = this;
    Object.entries(textures).forEach(([name, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(program.at(name), unit);
    });
  }

  #program(vertex, fragment) {
    const { gl } = this;
    const id = gl.createProgram();
    const shaders = [
      [gl.VERTEX_SHADER, vertex],
      [gl.FRAGMENT_SHADER, fragment],
    ].map(([kind, source]) => {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(id, shader);
      return shader;
    });
    gl.linkProgram(id);
    if (!gl.getProgramParameter(id, gl.LINK_STATUS) && !gl.isContextLost()) {
      const log = [...shaders.map((s) => gl.getShaderInfoLog(s)), gl.getProgramInfoLog(id)].join(" ").trim();
      throw new GraphicsError(`This graphics driver refuses the player's shaders (${log}).`);
    }
    for (const shader of shaders) gl.deleteShader(shader);
    const places = {};
    return { id, at: (name) => (places[name] ??= gl.getUniformLocation(id, name)) };
  }
}

/** Bits of the half float nearest to byte / 255. */
function halfOfByte(byte) {
  if (byte === 0) return 0;
  const value = byte / 255;
  const exponent = Math.floor(Math.log2(value));
  const mantissa = Math.round((value / 2 ** exponent - 1) * 1024);
  return ((exponent + 15) << 10) + mantissa;
}
