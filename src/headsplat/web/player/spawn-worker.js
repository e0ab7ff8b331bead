/** Start the sort worker; single-file exports replace this module by one that starts it from a Blob. */

export const spawnSortWorker = () => new Worker(new URL("./sort-worker.js", import.meta.url), { type: "module" });
