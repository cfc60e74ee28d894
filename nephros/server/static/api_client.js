// Uploads files and reads the server's responses. When `signal` aborts, its own error is thrown.
const MAX_ATTEMPTS = 6;

// The URL of a route. This script is beside the routes, so that they are found below a reverse proxy's path prefix too.
export const routeUrl = (route) => new URL(route, import.meta.url);

export async function postFiles(route, files, signal) {
  for (let attempt = 1; ; attempt++) {
    const form = new FormData();
    for (const file of files) form.append("files", file, file.webkitRelativePath || file.name);
    let response;
    try {
      response = await fetch(routeUrl(route), { method: "POST", body: form, signal });
    } catch (error) {
      if (signal.aborted) throw error;
      const message = "The server or the file is no longer available. Check that the server is running and that the file still exists.";
      throw Object.assign(new Error(message), { notSent: true });
    }
    if (response.ok) return response;
    const message = await response.json().then((body) => body.error, () => `The server responded with status ${response.status}.`);
    if (response.status !== 503 || attempt === MAX_ATTEMPTS) throw new Error(message);
    await new Promise((resolve) => {
      setTimeout(resolve, 400 * 2 ** attempt);
      signal.addEventListener("abort", resolve, { once: true });
    });
  }
}

// Passes the results of a file to `onResults` as they arrive, several at a time.
export async function streamResults(params, file, signal, onResults) {
  const response = await postFiles(`predict/batch?${params}`, [file], signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", finalLine = null;
  for (;;) {
    const { value, done } = await reader.read();
    signal.throwIfAborted();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    const results = lines.map((line) => JSON.parse(line));
    if (results.length && "done" in results.at(-1)) finalLine = results.pop();
    onResults(results);
  }
  if (!finalLine?.done) throw new Error(`${file.name}: ${finalLine?.error ?? "the response ended early; the remaining cells have no prediction."}`);
}
