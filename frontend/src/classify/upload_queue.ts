/** Uploads files one group after another: a few images at once, an npz file or a stack by itself. */
import { RequestError } from "../shared/api.ts";
import { formatCount, percent, plainMessage } from "../shared/format.ts";
import { DEFAULT_SEGMENTER } from "../shared/segmenter_field.tsx";
import { type StackFiles, takeStacks } from "../shared/stack_files.ts";
import { predictFiles, type StreamHandlers, streamFiles } from "./predict_api.ts";
import { isNpz } from "./result_store.ts";
import type { Prediction, ServerInfo } from "./types.ts";

const MAX_GROUP_FILES = 24;
const MAX_GROUP_BYTES = 8e6;
/** Room for what a form adds to its files. */
const FORM_BYTES = 4096;
/** Why nothing more came of some files. */
export const STOPPED = "Stopped before it was classified.";

export interface QueueHandlers {
  /** `params` are those of the upload. */
  readonly onResults: (results: readonly Prediction[], params: UploadParams) => void;
  readonly onNotes: (notes: readonly string[]) => void;
  /** `share` is null where it is unknown. */
  readonly onProgress: (share: number | null, text: string) => void;
}

/** Query parameters of an upload: those of all routes, and those of stacks alone. */
export interface UploadParams {
  readonly common: Readonly<Record<string, string>>;
  readonly stack: Readonly<Record<string, string>>;
  /** What finds the nuclei of stacks without a mask. */
  readonly segment: string;
  /** Cells of a file whose images are sent. */
  readonly detailLimit: number;
}

interface Images {
  readonly files: File[];
  readonly params: UploadParams;
}

interface Stack extends StackFiles {
  readonly params: UploadParams;
}

type Upload = Images | Stack;

const isStack = (upload: Upload): upload is Stack => "stack" in upload;
const filesOf = (upload: Upload): File[] =>
  isStack(upload) ? [upload.stack, ...(upload.mask ? [upload.mask] : [])] : upload.files;

export class UploadQueue {
  readonly #limits: ServerInfo["limits"];
  readonly #handlers: QueueHandlers;
  #files: { readonly file: File; readonly params: UploadParams }[] = [];
  #stacks: Stack[] = [];
  #nTotal = 0;
  #nDone = 0;
  #controller: AbortController | null = null;

  constructor(limits: ServerInfo["limits"], handlers: QueueHandlers) {
    this.#limits = limits;
    this.#handlers = handlers;
  }

  get isRunning(): boolean {
    return this.#controller !== null;
  }

  /** Add files with the options of now, which may be others while they wait; returns whether they have to be started. */
  add(files: readonly File[], params: UploadParams): boolean {
    const { stacks, others } = takeStacks(files);
    this.#files.push(...others.map((file) => ({ file, params })));
    this.#stacks.push(...stacks.map((stack) => ({ ...stack, params })));
    this.#nTotal += files.length;
    return files.length > 0 && !this.isRunning;
  }

  stop(): void {
    this.#controller?.abort();
  }

  /** Drop everything, also what is under way. */
  clear(): void {
    this.#files = [];
    this.#stacks = [];
    this.#controller?.abort();
    this.#end();
  }

  #end(): void {
    this.#controller = null;
    this.#nTotal = this.#nDone = 0;
  }

  /** Send all files; resolves to whether it was not cleared meanwhile. */
  async run(): Promise<boolean> {
    const controller = new AbortController();
    this.#controller = controller;
    const { signal } = controller;
    this.#report();
    for (let upload = this.#next(); upload && !signal.aborted; upload = this.#next()) {
      try {
        await this.#send(upload, signal);
      } catch (error) {
        if (controller === this.#controller) this.#fail(upload, signal.aborted ? STOPPED : (error as Error).message);
      }
      if (controller !== this.#controller) return false; // cleared; another run may have started
      this.#nDone += filesOf(upload).length;
      this.#report();
      if (signal.aborted) break;
    }
    for (let upload = this.#next(); upload; upload = this.#next()) this.#fail(upload, STOPPED);
    this.#end();
    return true;
  }

  #next(): Upload | null {
    const first = this.#files.shift();
    if (!first) return this.#stacks.shift() ?? null;
    const { file, params } = first;
    const files = [file];
    let nBytes = file.size;
    while (!isNpz(file.name) && files.length < MAX_GROUP_FILES) {
      const next = this.#files[0];
      if (next?.params !== params || isNpz(next.file.name)) break;
      nBytes += next.file.size;
      if (nBytes >= MAX_GROUP_BYTES) break;
      files.push(next.file);
      this.#files.shift();
    }
    return { files, params };
  }

  #isTooLarge(files: readonly File[], route: keyof ServerInfo["limits"]): boolean {
    return files.reduce((sum, { size }) => sum + size, 0) > this.#limits[route].max_upload_bytes - FORM_BYTES;
  }

  async #send(upload: Upload, signal: AbortSignal): Promise<void> {
    if (isStack(upload)) return this.#sendStack(upload, signal);
    const { files, params } = upload;
    const [first] = files as [File];
    if (isNpz(first.name)) return this.#sendNpz(first, params, signal);
    if (this.#isTooLarge(files, "predict")) {
      if (/\.tiff?$/i.test(first.name)) return this.#sendStack({ stack: first, mask: null, params }, signal);
      throw new Error(`${first.name} exceeds the server's upload limit.`);
    }
    await this.#sendImages(upload, signal);
  }

  async #sendImages({ files, params }: Images, signal: AbortSignal): Promise<void> {
    let results: Prediction[];
    try {
      results = await predictFiles(new URLSearchParams(params.common), files, signal);
    } catch (error) {
      const wasNotSent = error instanceof RequestError && error.status === 0;
      if (!wasNotSent || files.length === 1) throw error;
      // One unreadable file fails the upload of its whole group, so upload the files one by one.
      for (const file of files) {
        const upload = { files: [file], params };
        await this.#sendImages(upload, signal).catch((fileError: Error) => {
          signal.throwIfAborted();
          this.#fail(upload, fileError.message);
        });
      }
      return;
    }
    signal.throwIfAborted();
    const stacks = results.filter(isStackError).map(({ file }) => file);
    this.#handlers.onResults(
      results.filter((result) => !isStackError(result)),
      params,
    );
    for (const name of stacks) {
      const stack = files.find((file) => (file.webkitRelativePath || file.name) === name);
      if (stack) this.#stacks.unshift({ stack, mask: null, params });
      this.#nTotal++;
    }
  }

  async #sendNpz(file: File, params: UploadParams, signal: AbortSignal): Promise<void> {
    if (this.#isTooLarge([file], "batch")) {
      throw new Error(`${file.name} exceeds the server's upload limit: use nephros predict instead.`);
    }
    let nRows = 0;
    const query = { ...params.common, detail_limit: String(params.detailLimit) };
    await this.#stream("predict/batch", query, { files: file }, signal, {
      onResults: (results) => {
        nRows += results.length;
        this.#handlers.onResults(results, params);
        this.#handlers.onProgress(null, `${file.name}: ${formatCount(nRows)} cells`);
      },
    });
  }

  async #sendStack({ stack, mask, params }: Stack, signal: AbortSignal): Promise<void> {
    const files: Record<string, File> = mask ? { stack, mask } : { stack };
    if (this.#isTooLarge(Object.values(files), "stack")) {
      throw new Error(`${stack.name} exceeds the server's upload limit: use nephros predict instead.`);
    }
    this.#handlers.onProgress(null, `${stack.name}: uploading`);
    let nNuclei = 0;
    const detail_limit = String(params.detailLimit);
    const query: Record<string, string> = { ...params.common, ...params.stack, detail_limit };
    if (!mask && params.segment !== DEFAULT_SEGMENTER) query.segment = params.segment;
    const notes = await this.#stream("predict/stack", query, files, signal, {
      onResults: (results) => {
        nNuclei += results.length;
        this.#handlers.onResults(results, params);
        this.#handlers.onProgress(null, `${stack.name}: ${formatCount(nNuclei)} nuclei`);
      },
      onProgress: ({ stage, share }) => {
        this.#handlers.onProgress(share, `${stack.name}: ${stage.toLowerCase()}, ${percent(share, 0)}`);
      },
    });
    this.#handlers.onNotes(notes.map(plainMessage));
  }

  #stream(
    route: string,
    params: Readonly<Record<string, string>>,
    files: Readonly<Record<string, File>>,
    signal: AbortSignal,
    handlers: StreamHandlers,
  ): Promise<readonly string[]> {
    return streamFiles(`${route}?${new URLSearchParams(params)}`, files, signal, handlers);
  }

  #fail(upload: Upload, error: string): void {
    const nothing = { label: null, class_name: null, probabilities: null, prediction_set: null, is_ood: null };
    this.#handlers.onResults(
      filesOf(upload).map((file) => ({ file: file.webkitRelativePath || file.name, index: 0, ...nothing, error })),
      upload.params,
    );
  }

  #report(): void {
    const text = `${formatCount(this.#nDone)} of ${formatCount(this.#nTotal)} files`;
    this.#handlers.onProgress(this.#nDone / Math.max(1, this.#nTotal), text);
  }
}

/** Whether a file that was sent as an image is a stack, which its route takes. */
const isStackError = ({ error }: Prediction): boolean => error?.includes("is a 3-D stack") ?? false;
