/** The jobs of a project, the latest first, and how to wait for one. */
import { effect, type ReadonlySignal } from "@preact/signals";
import { plainMessage } from "../shared/format.ts";
import type { Job } from "./types.ts";

/** What a run can be exported as: the server's name of a format, and that on the page. */
export const EXPORT_FORMATS: readonly (readonly [format: string, name: string])[] = [
  ["onnx", "ONNX"],
  ["csv", "Table"],
  ["geojson", "GeoJSON"],
];

export const isActive = ({ state }: Job): boolean => state === "running" || state === "queued";

/** What a job does, of which run and in which format. */
export function jobTitle({ kind, run, format }: Job): string {
  if (kind === "finetune") return `Fine-tuning ${run ?? ""}`.trim();
  if (kind === "import") return "Adding cells";
  const name = EXPORT_FORMATS.find(([candidate]) => candidate === format)?.[1];
  return `Export of ${run ?? "a run"}${name ? ` as ${name}` : ""}`;
}

/**
 * Bring a list up to date with the server's, which has the oldest first: jobs keep their places, and new ones are put before
 * them. `asked` is the list as it was when the server was asked; a job of it that was under way and that the server doesn't
 * know has ended with an earlier start of the server.
 */
export function mergeJobs(current: readonly Job[], loaded: readonly Job[], asked: readonly Job[]): Job[] {
  const byId = new Map(loaded.map((job) => [job.id, job]));
  const askedIds = new Set(asked.map(({ id }) => id));
  const kept = current.flatMap((job) => {
    const known = byId.get(job.id);
    if (known || !askedIds.has(job.id)) return known ?? job;
    return isActive(job) ? interrupted(job) : [];
  });
  const keptIds = new Set(kept.map(({ id }) => id));
  return [...loaded.filter(({ id }) => !keptIds.has(id)).reverse(), ...kept];
}

function interrupted(job: Job): Job {
  const advice = job.kind === "import" ? "add the files again" : "start it again";
  return { ...job, state: "interrupted", message: `The server was started again meanwhile: ${advice}.` };
}

/** A list with the newest state of one job. */
export function updateJob(current: readonly Job[], job: Job): Job[] {
  const isNew = current.every(({ id }) => id !== job.id);
  return isNew ? [job, ...current] : current.map((other) => (other.id === job.id ? job : other));
}

/** Resolves when a job of the list has ended well; rejects with its message when it has not. */
export function waitForJob(
  jobs: ReadonlySignal<readonly Job[]>,
  job: Job,
  onProgress?: (job: Job) => void,
): Promise<Job> {
  return new Promise((resolve, reject) => {
    const stop = effect(() => {
      const current = jobs.value.find(({ id }) => id === job.id) ?? job;
      onProgress?.(current);
      if (isActive(current)) return;
      queueMicrotask(() => stop());
      if (current.state === "done") resolve(current);
      else reject(new Error(plainMessage(current.message) || `The job was ${current.state}.`));
    });
  });
}
