/** The state of the page, and what its controls do. */
import { batch, computed, signal } from "@preact/signals";
import { BatchLoader } from "../grid/batch_loader.ts";
import { ImageCache } from "../grid/image_cache.ts";
import { getJson, request } from "../shared/api.ts";
import { classColor } from "../shared/palette.ts";
import { DEFAULT_SEGMENTER } from "../shared/segmenter_field.tsx";
import { DEFAULT_QUERY, type GalleryQuery, galleryOrder } from "./gallery_query.ts";
import { predictFiles } from "./predict_api.ts";
import {
  type CellResult,
  displayName,
  isCell,
  MAX_PIXEL_BYTES,
  NO_IMAGE,
  ResultStore,
  topProbability,
} from "./result_store.ts";
import { encodeTiff } from "./tiff.ts";
import type { Model, Prediction, Sample, ServerInfo } from "./types.ts";
import { type UploadParams, UploadQueue } from "./upload_queue.ts";

const N_NEIGHBORS = 6;
const REFRESH_INTERVAL_MS = 500;

export interface Options {
  readonly coverage: string;
  readonly whiteLevel: string;
  readonly channel: string;
  readonly voxelSize: string;
  readonly segment: string;
}

export interface Progress {
  readonly share: number | null;
  readonly text: string;
}

export class Session {
  readonly server = signal<ServerInfo | null>(null);
  readonly models = signal<readonly Model[]>([]);
  readonly modelName = signal("");
  readonly samples = signal<readonly Sample[]>([]);
  readonly problem = signal("");
  readonly options = signal<Options>({
    coverage: "0.9",
    whiteLevel: "",
    channel: "",
    voxelSize: "",
    segment: DEFAULT_SEGMENTER,
  });
  /** Null while nothing is sent. */
  readonly progress = signal<Progress | null>(null);
  readonly notes = signal<readonly string[]>([]);
  /** What the files that were dropped last leave out. */
  readonly dropNote = signal("");
  readonly query = signal<GalleryQuery>(DEFAULT_QUERY);
  readonly order = signal<Uint32Array>(new Uint32Array());
  readonly active = signal(0);
  /** Result whose card is open, or null. */
  readonly card = signal<number | null>(null);
  readonly tile = signal(72);
  /** Whether the gallery shows each cell at full contrast, as cards do. */
  readonly isBrightened = signal(true);
  /** Changes with the results. */
  readonly version = signal(0);
  /** Changes with what the gallery draws. */
  readonly gridVersion = signal(0);
  readonly store = new ResultStore();
  readonly trueClasses = new Map<string, string>();
  readonly model = computed<Model | null>(
    () => this.models.value.find(({ name }) => name === this.modelName.value) ?? this.models.value[0] ?? null,
  );
  images: ImageCache | null = null;
  columns = 1;
  #view: [number, number] = [0, 0];
  #started: Promise<void> = Promise.resolve();
  #loader: BatchLoader | null = null;
  #queue: UploadQueue | null = null;
  #files: File[] = [];
  #lastRefresh = 0;

  /** Load what the server says of itself; files that are dropped meanwhile wait for that. */
  start(): void {
    this.isBrightened.subscribe(() => {
      this.#openImages();
      this.onView(...this.#view, this.columns);
      this.gridVersion.value++;
    });
    this.#started = this.#load();
  }

  async #load(): Promise<void> {
    try {
      const [server, models, samples] = await Promise.all([
        getJson<ServerInfo>("version"),
        getJson<Model[]>("models"),
        getJson<Sample[]>("samples"),
      ]);
      this.#queue = new UploadQueue(server.limits, {
        onResults: (results, params) => this.#addResults(results, params),
        onNotes: (notes) => {
          this.notes.value = [...this.notes.value, ...notes];
        },
        onProgress: (share, text) => {
          this.progress.value = { share, text };
        },
      });
      batch(() => {
        this.server.value = server;
        this.models.value = models;
        this.samples.value = samples;
        this.modelName.value = models.find((model) => model.default)?.name ?? "";
      });
      this.#openImages();
    } catch {
      this.problem.value = "The server can't be reached: reload the page.";
    }
  }

  #openImages(): void {
    const input = this.model.value?.model.input;
    if (!input) return;
    const images = new ImageCache(input, this.isBrightened.value);
    this.images = images;
    this.#loader = new BatchLoader({
      size: images.batchSize,
      concurrency: 2,
      load: (cells) => images.add(cells, concatenate(cells.map((cell) => this.store.pixels(cell) as Uint8Array))),
      isLoaded: (cell) => images.has(cell) || this.store.pixels(cell) === null,
      onLoad: () => {
        this.gridVersion.value++;
      },
    });
  }

  /** Predict files, after those that are under way; the note is shown until the next ones come. */
  async upload(files: readonly File[], note = ""): Promise<void> {
    this.dropNote.value = note;
    await this.#started;
    const queue = this.#queue;
    if (!queue) return;
    this.#files.push(...files);
    if (!queue.add(files, this.#params())) return;
    const nBefore = this.store.results.length;
    if (!(await queue.run())) return;
    this.progress.value = null;
    this.refresh();
    if (this.store.results.length === nBefore + 1 && this.store.nCells > 0) this.openCard(nBefore);
  }

  #params(): UploadParams {
    const { coverage, whiteLevel, channel, voxelSize, segment } = this.options.value;
    const common: Record<string, string> = { coverage, details: "true", pixels: "true" };
    if (whiteLevel) common.white_level = whiteLevel;
    if (channel.trim()) common.channel = channel.trim();
    if (!this.model.value?.default) common.model = this.modelName.value;
    const stack: Record<string, string> = voxelSize.trim() ? { voxel_size: voxelSize.replaceAll(" ", "") } : {};
    return { common, stack, segment, detailLimit: Math.floor(MAX_PIXEL_BYTES / this.#cellBytes()) };
  }

  #cellBytes(): number {
    const { channels, height, width } = (this.model.value as Model).model.input;
    return channels * height * width;
  }

  async predictSample(sample: Sample): Promise<void> {
    const blob = await (await request(`samples/${sample.name}`)).blob();
    if (sample.true_class) this.trueClasses.set(sample.name, sample.true_class);
    await this.upload([new File([blob], sample.name, { type: "image/png" })]);
  }

  #addResults(results: readonly Prediction[], params: UploadParams): void {
    this.store.add(results, Number(params.common.coverage));
    if (performance.now() - this.#lastRefresh > REFRESH_INTERVAL_MS) this.refresh();
  }

  /** Bring the page in line with the results. */
  refresh(): void {
    batch(() => {
      this.version.value++;
      this.order.value = galleryOrder(this.store.results, this.query.value);
      this.active.value = Math.max(0, Math.min(this.active.value, this.order.value.length - 1));
      this.gridVersion.value++;
    });
    this.#lastRefresh = performance.now();
  }

  setQuery(change: Partial<GalleryQuery>): void {
    this.query.value = { ...this.query.value, ...change };
    this.active.value = 0;
    this.refresh();
  }

  /** Predict everything again with another model. */
  setModel(name: string): void {
    const files = [...this.#files];
    this.clear();
    this.modelName.value = name;
    this.#openImages();
    if (files.length) void this.upload(files);
  }

  stop(): void {
    this.#queue?.stop();
  }

  clear(): void {
    this.#queue?.clear();
    this.#files = [];
    this.store.clear();
    this.#openImages();
    batch(() => {
      this.progress.value = null;
      this.notes.value = [];
      this.card.value = null;
      this.query.value = DEFAULT_QUERY;
      this.active.value = 0;
      this.refresh();
    });
  }

  readonly onView = (first: number, last: number, columns: number): void => {
    this.columns = columns;
    this.#view = [first, last];
    const order = this.order.value;
    this.#loader?.want([...order.subarray(first, last), ...order.subarray(last, 2 * last - first)]);
  };

  get visibleRows(): number {
    return Math.max(1, Math.floor((this.#view[1] - this.#view[0]) / this.columns) - 1);
  }

  moveTo(position: number): void {
    batch(() => {
      this.active.value = position;
      if (this.card.value !== null) this.card.value = this.order.value[position] ?? null;
      this.gridVersion.value++;
    });
  }

  openCard(cell: number): void {
    const position = this.order.value.indexOf(cell);
    if (position >= 0) this.active.value = position;
    this.card.value = cell;
  }

  cell(position: number): CellResult | null {
    const result = this.store.results[this.order.value[position] ?? -1];
    return result && isCell(result) ? result : null;
  }

  /** A cell in words, for screen readers. */
  readonly describe = (position: number): string => {
    const result = this.cell(position);
    if (!result) return "No cell";
    const parts = [displayName(result), `${result.class_name}, ${Math.round(100 * topProbability(result))}%`];
    if (result.prediction_set.length > 1) parts.push(`unsure between ${result.prediction_set.length} classes`);
    if (result.is_ood) parts.push("out of distribution");
    return parts.join(", ");
  };

  /** Ask for the similar cells or the saliency map of a cell, by the pixels that the model saw. */
  async explain(cell: number, what: "similar" | "saliency", signal: AbortSignal): Promise<Prediction> {
    const pixels = this.store.pixels(cell);
    const { model, name, default: isDefault } = this.model.value as Model;
    if (!pixels) throw new Error(NO_IMAGE);
    const { width, height, channels } = model.input;
    const params = new URLSearchParams(what === "similar" ? { n_neighbors: String(N_NEIGHBORS) } : { explain: "true" });
    if (!isDefault) params.set("model", name);
    const file = new File([encodeTiff(pixels, width, height, channels)], "cell.tif");
    const [result] = (await predictFiles(params, [file], signal)) as [Prediction];
    if (result.error !== null) throw new Error(result.error);
    return result;
  }

  get hasSimilarCells(): boolean {
    return this.server.value?.reference_cells !== null;
  }
}

export const colorOf = (label: number): string => classColor(label);

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    all.set(part, place);
    place += part.length;
  }
  return all;
}
