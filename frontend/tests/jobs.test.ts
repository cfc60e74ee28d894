import { signal } from "@preact/signals";
import { afterEach, expect, test, vi } from "vitest";
import { mergeJobs, updateJob, waitForJob } from "../src/annotate/jobs.ts";
import { startFinetune } from "../src/annotate/project_api.ts";
import type { Job } from "../src/annotate/types.ts";
import { plainMessage } from "../src/shared/format.ts";

const job = (id: string, state: Job["state"] = "running", message = ""): Job => ({
  id,
  kind: "finetune",
  state,
  progress: null,
  message,
  run: "run-1",
});

afterEach(() => vi.unstubAllGlobals());

test("jobs keep their places when the server lists them again, and new ones come first", () => {
  const first = mergeJobs([], [job("import-1", "done"), job("finetune-1")]);
  expect(first.map(({ id }) => id)).toEqual(["finetune-1", "import-1"]);
  const more = updateJob(first, job("import-2"));
  const next = mergeJobs(more, [job("import-1", "done"), job("import-2", "done"), job("finetune-1", "done")]);
  expect(next.map(({ id, state }) => [id, state])).toEqual([
    ["import-2", "done"],
    ["finetune-1", "done"],
    ["import-1", "done"],
  ]);
});

test("a change of a job keeps its place", () => {
  const jobs = updateJob([job("b"), job("a")], job("a", "done"));
  expect(jobs.map(({ id, state }) => [id, state])).toEqual([
    ["b", "running"],
    ["a", "done"],
  ]);
});

test("waiting for a job ends with it, and a failure says why, without backticks", async () => {
  const jobs = signal<readonly Job[]>([job("a"), job("b")]);
  const done = waitForJob(jobs, job("a"));
  const failed = waitForJob(jobs, job("b"));
  jobs.value = [job("a", "done"), job("b", "failed", "`labels` has one class.")];
  expect((await done).state).toBe("done");
  await expect(failed).rejects.toThrow("labels has one class.");
});

test("fine-tuning returns the job that the server started", async () => {
  const body = JSON.stringify({ job: job("finetune-1", "queued") });
  vi.stubGlobal("fetch", async () => new Response(body, { status: 202 }));
  expect((await startFinetune("")).id).toBe("finetune-1");
});

test("messages lose their backticks", () => {
  expect(plainMessage("`channel` is 3: give a channel.")).toBe("channel is 3: give a channel.");
});
