/** What is known of the cells: label, prediction, marks. Labels set here are shown at once and corrected by the server's. */
import { BatchLoader } from "../grid/batch_loader.ts";
import { getCells } from "./project_api.ts";
import type { CellInfo, LabelChange } from "./types.ts";

const MAX_CELLS_PER_REQUEST = 512;

export interface CellStoreOptions {
  readonly onLoad: () => void;
  /** As of the label queue. */
  readonly unsavedLabel: (cell: number) => number | null | undefined;
  readonly load?: (cells: readonly number[]) => Promise<CellInfo[]>;
}

interface Entry {
  info: CellInfo;
  /** Generation of the project's state in which it was loaded. */
  generation: number;
}

export class CellStore {
  readonly #entries = new Map<number, Entry>();
  readonly #confirmedAt = new Map<number, number>();
  readonly #loader: BatchLoader;
  readonly #options: CellStoreOptions;
  #generation = 0;
  /** Counts confirmations, so that a response from before one is recognized. */
  #clock = 0;

  constructor(options: CellStoreOptions) {
    this.#options = options;
    this.#loader = new BatchLoader({
      size: MAX_CELLS_PER_REQUEST,
      concurrency: 1,
      load: (cells) => this.#fetch(cells),
      isLoaded: (cell) => this.#entries.get(cell)?.generation === this.#generation,
      onLoad: options.onLoad,
    });
  }

  get(cell: number): CellInfo | undefined {
    return this.#entries.get(cell)?.info;
  }

  label(cell: number): number | null {
    const unsaved = this.#options.unsavedLabel(cell);
    return unsaved === undefined ? (this.#entries.get(cell)?.info.label ?? null) : unsaved;
  }

  /** Everything may have changed on the server: load again what is in view, and show the old state until then. */
  markStale(): void {
    this.#generation++;
  }

  want(cells: number[]): void {
    this.#loader.want(cells);
  }

  /** The server has these changes on its disk. */
  confirm(annotator: string, changes: readonly LabelChange[]): void {
    this.#clock++;
    for (const { cell, class: id } of changes) {
      this.#confirmedAt.set(cell, this.#clock);
      const entry = this.#entries.get(cell);
      if (entry) entry.info = withLabel(entry.info, annotator, id);
    }
  }

  async #fetch(cells: readonly number[]): Promise<void> {
    const generation = this.#generation;
    const start = this.#clock;
    for (const info of await (this.#options.load ?? getCells)(cells)) {
      const previous = this.#entries.get(info.cell)?.info;
      // A response from before a label was saved must not take the label back.
      const isOutdated = previous !== undefined && (this.#confirmedAt.get(info.cell) ?? 0) > start;
      const { label, labels_by } = isOutdated ? previous : info;
      this.#entries.set(info.cell, { info: { ...info, label, labels_by }, generation: isOutdated ? -1 : generation });
    }
  }
}

function withLabel(info: CellInfo, annotator: string, id: number | null): CellInfo {
  const { [annotator]: _, ...others } = info.labels_by;
  return { ...info, label: id, labels_by: id === null ? others : { ...others, [annotator]: id } };
}
