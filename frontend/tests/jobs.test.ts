import { signal } from "@preact/signals";
import { afterEach, expect, test, vi } from "vitest";
import { jobTitle, mergeJobs, updateJob, waitForJob } from "../src/annotate/jobs.ts";
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
  const first = mergeJobs([], [job("import-1", "done"), job("finetune-1")], []);
  expect(first.map(({ id }) => id)).toEqual(["finetune-1", "import-1"]);
  const more = updateJob(first, job("import-2"));
  const next = mergeJobs(more, [job("import-1", "done"), job("import-2", "done"), job("finetune-1", "done")], more);
  expect(next.map(({ id, state }) => [id, state])).toEqual([
    ["import-2", "done"],
    ["finetune-1", "done"],
    ["import-1", "done"],
  ]);
});

test("a job that was under way and that the server doesn't know has ended with an earlier start of it", async () => {
  const jobs = signal<readonly Job[]>([{ ...job("import-a-1", "queued"), kind: "import" }, job("import-a-0", "done")]);
  const ended = waitForJob(jobs, jobs.value[0] as Job);
  jobs.value = mergeJobs(jobs.value, [job("import-b-1")], jobs.value);
  await expect(ended).rejects.toThrow("add the files again");
  jobs.value = mergeJobs(jobs.value, [job("import-b-1")], jobs.value);
  expect(jobs.value.map(({ id }) => id)).toEqual(["import-b-1"]);
});

test("a job that was started after the server was asked stays in the list", () => {
  expect(mergeJobs([job("import-1")], [], [])).toEqual([job("import-1")]);
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

test("fine-tuning sends its methods, and returns the job that the server started", async () => {
  const body = JSON.stringify({ job: job("finetune-1", "queued") });
  const send = vi.fn(async (_: URL, _init: RequestInit) => new Response(body, { status: 202 }));
  vi.stubGlobal("fetch", send);
  expect((await startFinetune("", ["head"])).id).toBe("finetune-1");
  await startFinetune("mine");
  expect(send.mock.calls.map(([, init]) => JSON.parse(init.body as string))).toEqual([
    { methods: ["head"] },
    { name: "mine" },
  ]);
});

test("a job's title names the run and the format", () => {
  const exported = { ...job("export-1"), kind: "export" };
  expect(jobTitle(job("finetune-1"))).toBe("Fine-tuning run-1");
  expect(jobTitle({ ...exported, format: "csv" })).toBe("Export of run-1 as Table");
  expect(jobTitle({ ...exported, format: "onnx" })).toBe("Export of run-1 as ONNX");
  expect(jobTitle({ ...exported, format: null })).toBe("Export of run-1");
  expect(jobTitle({ ...job("import-1"), kind: "import", run: null })).toBe("Adding cells");
});

test("messages lose their backticks", () => {
  expect(plainMessage("`channel` is 3: give a channel.")).toBe("channel is 3: give a channel.");
});
