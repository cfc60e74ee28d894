/**
 * The routes below `project`. Each request names the project that this page shows, since the server may be started again with
 * another one, and each write carries the token of the server's present start; after a restart it is fetched again.
 */
import { postFiles, RequestError, request, routeUrl } from "../shared/api.ts";
import { maskOf } from "../shared/stack_files.ts";
import { decodeOrder } from "./cell_order.ts";
import type { Agreement, CellCard, CellInfo, Job, LabelChange, LabelClass, Project, Run, Tissue } from "./types.ts";

export interface AddedCells {
  readonly n_added?: number;
  readonly n_present?: number;
  readonly job?: Job;
  readonly errors?: readonly string[];
  readonly notes?: readonly string[];
}

export interface ImportReport {
  readonly n_labels: number;
  readonly n_unchanged: number;
  readonly n_missing: number;
  readonly new_classes: readonly string[];
  readonly notes: readonly string[];
}

let token = "";
let projectId = "";

const projectHeader = (): Record<string, string> => (projectId ? { "X-Nephros-Project": projectId } : {});
const writeHeaders = () => ({ ...projectHeader(), "X-Nephros-Token": token });

/** Whether the server has refused a request because it serves another project now than this page shows. */
export const isOfOtherProject = (error: unknown): boolean => error instanceof RequestError && error.status === 412;

const get = (route: string, signal?: AbortSignal): Promise<Response> =>
  request(route, { headers: projectHeader(), ...(signal ? { signal } : {}) });

async function getJson<T>(route: string, signal?: AbortSignal): Promise<T> {
  return (await get(route, signal)).json();
}

export async function getProject(): Promise<Project> {
  const project = await getJson<Project>("project");
  ({ id: projectId, token } = project);
  return project;
}

export async function getOrder(params: URLSearchParams, signal?: AbortSignal): Promise<Uint32Array> {
  const response = await get(`project/order?${params}`, signal);
  return decodeOrder(await response.arrayBuffer());
}

export async function getImages(cells: readonly number[]): Promise<Uint8Array> {
  const response = await get(`project/images?cells=${cells.join(",")}`);
  return new Uint8Array(await response.arrayBuffer());
}

export const getCells = (cells: readonly number[]) => getJson<CellInfo[]>(`project/cells?cells=${cells.join(",")}`);
export const getCard = (cell: number, signal?: AbortSignal) => getJson<CellCard>(`project/cells/${cell}`, signal);
export const getTissue = (cell: number, signal?: AbortSignal) =>
  getJson<Tissue>(`project/cells/${cell}/tissue`, signal);
export const getRuns = (): Promise<Run[]> => getJson("project/runs");
export const getAgreement = () => getJson<Agreement[]>("project/agreement");
export const heatMapUrl = (cell: number): string => routeUrl(`project/cells/${cell}/heatmap`).href;
export const labelsUrl = (format: string): string => routeUrl(`project/labels.${format}`).href;
export const runUrl = (name: string, part: string): string =>
  routeUrl(`project/runs/${encodeURIComponent(name)}/${part}`).href;

export async function sendLabels(annotator: string, changes: readonly LabelChange[]): Promise<void> {
  const sent = changes.map(({ cell, class: id, undo }) => (undo ? { cell, class: null, undo } : { cell, class: id }));
  await write("POST", "project/labels", { annotator, changes: sent });
}

export const addClass = (name: string, color?: string): Promise<LabelClass> =>
  write("POST", "project/classes", color ? { name, color } : { name });
export const changeClass = (id: number, change: { name?: string; color?: string }): Promise<LabelClass> =>
  write("PATCH", `project/classes/${id}`, change);
export const mergeClass = (id: number, into: number): Promise<unknown> =>
  write("POST", `project/classes/${id}/merge`, { into });
/** Start to fine-tune; without a name the server numbers the run, and without methods it compares all but self-training. */
export async function startFinetune(name: string, methods?: readonly string[]): Promise<Job> {
  const body = { ...(name ? { name } : {}), ...(methods ? { methods } : {}) };
  return (await write<{ job: Job }>("POST", "project/finetune", body)).job;
}

export const cancelJob = (id: string): Promise<unknown> => write("DELETE", `project/jobs/${encodeURIComponent(id)}`);

export function addCells(files: readonly File[], params: URLSearchParams, signal: AbortSignal): Promise<AddedCells> {
  return upload(params.size ? `project/cells?${params}` : "project/cells", files, signal);
}

export function importLabels(file: File, annotator: string, signal: AbortSignal): Promise<ImportReport> {
  return upload(`project/labels/import?${new URLSearchParams({ annotator })}`, [file], signal);
}

async function write<T>(method: string, route: string, body?: unknown): Promise<T> {
  const init = () => ({
    method,
    headers: { ...writeHeaders(), ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return (await withFreshToken(() => request(route, init()))).json();
}

async function upload<T>(route: string, files: readonly File[], signal: AbortSignal): Promise<T> {
  const send = async () => {
    const form = () => {
      const data = new FormData();
      const mask = maskOf(files);
      for (const file of files)
        data.append(file === mask ? "mask" : "files", file, file.webkitRelativePath || file.name);
      return data;
    };
    return postFiles(route, form, signal, writeHeaders());
  };
  return (await withFreshToken(send)).json();
}

/** Start the export of a run; its file can be downloaded when the job is done. */
export async function exportRun(name: string, format: string): Promise<Job> {
  return (await write<{ job: Job }>("POST", `project/runs/${encodeURIComponent(name)}/export/${format}`)).job;
}

/** Repeat a write once if its token is that of an earlier start of the server. */
async function withFreshToken(send: () => Promise<Response>): Promise<Response> {
  try {
    return await send();
  } catch (error) {
    if (!(error instanceof RequestError) || error.status !== 403) throw error;
    const before = token;
    await getProject();
    if (token === before) throw error;
    return send();
  }
}
