// Sends files to the server and reads its answers. Throws the signal's own error when that is given.
const TRIES = 6;

export async function send(path, files, signal) {
  for (let attempt = 1; ; attempt++) {
    const form = new FormData();
    for (const file of files) form.append("files", file, file.webkitRelativePath || file.name);
    let answer;
    try {
      answer = await fetch(path, { method: "POST", body: form, signal });
    } catch (error) {
      if (signal.aborted) throw error;
      const words = "The server can't be reached, or the file can't be read any more: see whether both are still there.";
      throw Object.assign(new Error(words), { unsent: true });
    }
    if (answer.ok) return answer;
    const words = await answer.json().then((body) => body.error, () => `The server answered ${answer.status}.`);
    if (answer.status !== 503 || attempt === TRIES) throw new Error(words);
    await new Promise((resolve) => {
      setTimeout(resolve, 400 * 2 ** attempt);
      signal.addEventListener("abort", resolve, { once: true });
    });
  }
}

// Gives the rows of a file to `take` as they come, some at a time.
export async function sendForLines(wishes, file, signal, take) {
  const reader = (await send(`/predict/batch?${wishes}`, [file], signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", end = null;
  for (;;) {
    const { value, done } = await reader.read();
    signal.throwIfAborted();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    const found = lines.map((line) => JSON.parse(line));
    if (found.length && "done" in found.at(-1)) end = found.pop();
    take(found);
  }
  if (!end?.done) throw new Error(`${file.name}: ${end?.error ?? "the answer broke off; cells after the last one shown have none."}`);
}
