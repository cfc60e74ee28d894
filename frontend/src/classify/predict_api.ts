/** The routes that predict: a few files at once, or one file whose results arrive line by line. */
import { postFiles } from "../shared/api.ts";
import type { Prediction, StackProgress, StreamEnd } from "./types.ts";

export interface StreamHandlers {
  readonly onResults: (results: Prediction[]) => void;
  readonly onProgress?: (progress: StackProgress) => void;
}

const nameOf = (file: File): string => file.webkitRelativePath || file.name;

export async function predictFiles(
  params: URLSearchParams,
  files: readonly File[],
  signal: AbortSignal,
): Promise<Prediction[]> {
  const form = () => {
    const data = new FormData();
    for (const file of files) data.append("files", file, nameOf(file));
    return data;
  };
  const response = await postFiles(`predict?${params}`, form, signal);
  return (await response.json()).results;
}

/** Send the files of some fields, and pass on what the lines of the response say; returns its notes. */
export async function streamFiles(
  route: string,
  fields: Readonly<Record<string, File>>,
  signal: AbortSignal,
  { onResults, onProgress }: StreamHandlers,
): Promise<readonly string[]> {
  const form = () => {
    const data = new FormData();
    for (const [field, file] of Object.entries(fields)) data.append(field, file, nameOf(file));
    return data;
  };
  const response = await postFiles(route, form, signal);
  const reader = (response.body as ReadableStream<Uint8Array<ArrayBuffer>>)
    .pipeThrough(new TextDecoderStream())
    .getReader();
  let rest = "";
  let end: StreamEnd | null = null;
  for (;;) {
    const { value, done } = await reader.read();
    signal.throwIfAborted();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop() as string;
    const results: Prediction[] = [];
    for (const line of lines) {
      const message = JSON.parse(line) as Prediction | StackProgress | StreamEnd;
      if ("done" in message) end = message;
      else if ("stage" in message) onProgress?.(message);
      else results.push(message);
    }
    if (results.length) onResults(results);
  }
  if (end?.done) return end.notes ?? [];
  const [first] = Object.values(fields) as [File];
  const reason = end?.error ?? "the response ended early; the remaining cells have no prediction.";
  throw new Error(`${nameOf(first)}: ${reason}`);
}
