/** Talk to the studio's server; every refusal is one sentence, thrown as an Error. */

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The studio does not answer; is it still running?");
  }
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

const post = async (path, body) => (await ask(path, { method: "POST", body: JSON.stringify(body) })).json();

/** All jobs, newest first. */
export const jobs = async () => (await ask("api/jobs")).json();

/** Upload one file and give its id; `onProgress` hears 0..1. */
export const upload = (file, onProgress) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `api/uploads?name=${encodeURIComponent(file.name)}`);
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onload = () =>
      request.status < 300 ? resolve(JSON.parse(request.response).id) : reject(new Error(request.response));
    // The server hangs up on files that are too large; browsers call that a network error.
    request.onerror = () => reject(new Error(`${file.name} could not be read; it may be too large.`));
    request.send(file);
  });

export const create = (uploads, options) => post("api/jobs", { uploads, ...options });
export const refine = (id, steps, face) => post(`api/jobs/${id}/refine`, { refine: steps, face });
export const cancel = (id) => post(`api/jobs/${id}/cancel`, {});
export const remove = (id) => ask(`api/jobs/${id}`, { method: "DELETE" });

/** A download as a Blob. */
export const download = async (id, suffix) => (await ask(`api/jobs/${id}/avatar.${suffix}`)).blob();

/** Addresses: the avatar for the player's page, its picture, the photo it is made from. */
export const avatarAddress = (job) => `api/jobs/${job.id}/view/${job.version}/${encodeURIComponent(job.name)}.avatar`;
export const posterAddress = (job) => `api/jobs/${job.id}/poster.jpg?version=${job.version}`;
export const photoAddress = (job) => (job.photos.length ? `api/uploads/${job.photos[0]}` : "");
