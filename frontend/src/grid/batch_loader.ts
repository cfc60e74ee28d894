/** Loads what the grid shows in batches: the newest wish first, so that a fast scroll leaves no queue behind. */

interface Options {
  /** Cells per request. */
  readonly size: number;
  /** Requests at one time. */
  readonly concurrency: number;
  /** Load a batch; cells that it does not store are asked for again. */
  readonly load: (cells: number[]) => Promise<void>;
  readonly isLoaded: (cell: number) => boolean;
  readonly onLoad: () => void;
}

const RETRY_DELAY_MS = 1500;

export class BatchLoader {
  readonly #options: Options;
  readonly #inFlight = new Set<number>();
  #wanted: number[] = [];
  #running = 0;
  #retry: ReturnType<typeof setTimeout> | null = null;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Replace the wish: cells, the most urgent first. */
  want(cells: number[]): void {
    this.#wanted = cells;
    this.#pump();
  }

  #pump(): void {
    const { size, concurrency, isLoaded, load, onLoad } = this.#options;
    while (this.#running < concurrency && this.#retry === null) {
      const batch: number[] = [];
      for (const cell of this.#wanted) {
        if (batch.length === size) break;
        if (!isLoaded(cell) && !this.#inFlight.has(cell)) batch.push(cell);
      }
      if (batch.length === 0) return;
      for (const cell of batch) this.#inFlight.add(cell);
      this.#running++;
      load(batch)
        .then(onLoad, () => this.#pause())
        .finally(() => {
          for (const cell of batch) this.#inFlight.delete(cell);
          this.#running--;
          this.#pump();
        });
    }
  }

  #pause(): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = null;
      this.#pump();
    }, RETRY_DELAY_MS);
  }
}
