/**
 * Face trackers that the page may load, behind one shape: `detect(video)` gives what it sees, `close()` ends it.
 *
 * Neither is part of the player. `@mediapipe/face_mesh` is pinned to 0.4.1633559619: the newest release aborts.
 */

export const FACE_MESH = "https://cdn.jsdelivr.net/npm/@mediapipe/face_mesh@0.4.1633559619/";

/**
 * MediaPipe FaceMesh: 478 landmarks.
 *
 * @param {string | ((file: string) => string)} files folder, or where each of the package's files is
 * @returns {Promise<{detect: (video: HTMLVideoElement) => Promise<?{landmarks: object[]}>, close: () => void}>}
 */
export async function loadFaceMesh(files = FACE_MESH) {
  const locate = typeof files === "function" ? files : (file) => files.replace(/\/?$/, "/") + file;
  if (!globalThis.FaceMesh) await loadScript(locate("face_mesh.js"));
  const mesh = new globalThis.FaceMesh({ locateFile: (file) => locate(file) });
  mesh.setOptions({
    maxNumFaces: 1,
    refineLandmarks: true,
    minDetectionConfidence: 0.5,
    minTrackingConfidence: 0.5,
    selfieMode: false,
  });
  let found = null;
  mesh.onResults(({ multiFaceLandmarks }) => (found = multiFaceLandmarks?.[0] ?? null));
  await mesh.initialize();
  return {
    detect: async (video) => {
      found = null;
      await mesh.send({ image: video });
      return found && { landmarks: found };
    },
    close: () => mesh.close(),
  };
}

/**
 * MediaPipe's Face Landmarker, which gives the 52 weights itself; for those who have the model file.
 *
 * @param {{bundle: string, wasm: string, model: Uint8Array|string}} files addresses of `vision_bundle.mjs` and of the
 *   wasm folder of `@mediapipe/tasks-vision`; bytes or address of `face_landmarker.task`
 * @returns detections carry `weights` by ARKit name and `matrix`, 4×4 column-major
 */
export async function loadFaceLandmarker({ bundle, wasm, model }) {
  const { FaceLandmarker, FilesetResolver } = await import(bundle);
  const fileset = await FilesetResolver.forVisionTasks(wasm);
  const landmarker = await FaceLandmarker.createFromOptions(fileset, {
    baseOptions: typeof model === "string" ? { modelAssetPath: model } : { modelAssetBuffer: model },
    runningMode: "VIDEO",
    numFaces: 1,
    outputFaceBlendshapes: true,
    outputFacialTransformationMatrixes: true,
  });
  return {
    detect: async (video) => {
      const result = landmarker.detectForVideo(video, performance.now());
      const shapes = result.faceBlendshapes?.[0]?.categories;
      if (!shapes) return null;
      const weights = Object.fromEntries(
        shapes.filter((s) => s.categoryName !== "_neutral").map((s) => [s.categoryName, s.score]),
      );
      return { weights, matrix: result.facialTransformationMatrixes?.[0]?.data ?? null };
    },
    close: () => landmarker.close(),
  };
}

function loadScript(src) {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src });
    script.onload = resolve;
    script.onerror = () =>
      reject(new Error("The face tracker cannot be loaded; check the connection, or give its files."));
    document.head.append(script);
  });
}
