/**
 * Labels on their way to the server. A change leaves the queue only when the server has it on its disk; until then it is
 * shown as unsaved, kept over a reload, and sent again, however long the server is gone.
 */
import { RequestError } from "../shared/api.ts";
import type { KeyValueStorage } from "../shared/browser_storage.ts";
import type { LabelChange } from "./types.ts";

export interface QueuedChange extends LabelChange {
  readonly annotator: string;
}

export interface QueueOptions {
  /** Resolves when the changes are on disk. */
  readonly send: (annotator: string, changes: readonly LabelChange[]) => Promise<void>;
  /** The changes that can never be saved, and the server's reason. */
  readonly onRejected: (changes: readonly QueuedChange[], reason: string) => void;
  readonly onChange: () => void;
  readonly storage: KeyValueStorage;
  readonly wait?: (milliseconds: number) => Promise<void>;
}

export const MAX_CHANGES_PER_REQUEST = 5000;
/** More are stored when the page is left: storing them after each request would keep the page busy. */
const MAX_STORED_AT_ONCE = 500;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8000;

export class LabelQueue {
  readonly #options: QueueOptions;
  #changes: QueuedChange[] = [];
  #storageKey: string | null = null;
  readonly #byCell = new Map<number, { count: number; label: number | null }>();
  #isSending = false;
  #wake: (() => void) | null = null;
  /** Whether the last attempt failed. */
  isRetrying = false;
  /** Why the server could not save the labels at the last attempt, if it was reached. */
  problem = "";

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Keep the changes under a key from now on, and send those that an earlier page left there. */
  open(storageKey: string): void {
    if (storageKey === this.#storageKey) return;
    this.#storageKey = storageKey;
    for (const change of restore(this.#options.storage, storageKey)) {
      this.#changes.push(change);
      this.#enter(change);
    }
    this.#options.onChange();
    void this.flush();
  }

  get size(): number {
    return this.#changes.length;
  }

  /** The newest unsaved label of a cell, null where it was removed; undefined if everything is saved. */
  unsavedLabel = (cell: number): number | null | undefined => this.#byCell.get(cell)?.label;

  push(annotator: string, changes: readonly LabelChange[]): void {
    for (const change of changes) {
      this.#changes.push({ ...change, annotator });
      this.#enter(change);
    }
    this.#store();
    void this.flush();
  }

  /** Try again now rather than after the pause: the server is back. */
  retryNow(): void {
    this.#wake?.();
    void this.flush();
  }

  async flush(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    let delayMs = FIRST_DELAY_MS;
    while (this.#changes.length > 0) {
      const batch = this.#nextBatch();
      try {
        await this.#options.send(
          (batch[0] as QueuedChange).annotator,
          batch.map(({ annotator: _, ...change }) => change),
        );
        this.isRetrying = false;
        this.problem = "";
        this.#remove(batch.length);
        delayMs = FIRST_DELAY_MS;
      } catch (error) {
        if (error instanceof RequestError && !error.isTemporary && error.status !== 409) {
          this.#remove(batch.length);
          this.#options.onRejected(batch, error.message);
          continue;
        }
        this.isRetrying = true;
        this.problem = error instanceof RequestError && error.status > 0 ? error.message : "";
        this.#options.onChange();
        await this.#pause(delayMs);
        delayMs = Math.min(LONGEST_DELAY_MS, 2 * delayMs);
      }
    }
    this.#isSending = false;
  }

  /** The oldest changes of one annotator, at most one per cell: later ones of a cell need a request of their own. */
  #nextBatch(): QueuedChange[] {
    const annotator = this.#changes[0]?.annotator;
    const batch: QueuedChange[] = [];
    const cells = new Set<number>();
    for (const change of this.#changes) {
      if (change.annotator !== annotator || cells.has(change.cell) || batch.length === MAX_CHANGES_PER_REQUEST) break;
      batch.push(change);
      cells.add(change.cell);
    }
    return batch;
  }

  #enter({ cell, class: label }: LabelChange): void {
    this.#byCell.set(cell, { count: (this.#byCell.get(cell)?.count ?? 0) + 1, label });
  }

  #remove(n: number): void {
    for (const { cell } of this.#changes.splice(0, n)) {
      const entry = this.#byCell.get(cell);
      if (entry && --entry.count === 0) this.#byCell.delete(cell);
    }
    this.#store();
  }

  #pause(milliseconds: number): Promise<void> {
    const wait = this.#options.wait ?? ((ms: number) => new Promise((resolve) => setTimeout(resolve, ms)));
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    return Promise.race([wait(milliseconds), woken]).finally(() => {
      this.#wake = null;
    });
  }

  /** Keep all changes over a reload: the page is about to be left. */
  storeAll(): void {
    this.#write(this.#changes);
  }

  #store(): void {
    this.#write(this.#changes.length <= MAX_STORED_AT_ONCE ? this.#changes : []);
    this.#options.onChange();
  }

  #write(changes: readonly QueuedChange[]): void {
    if (this.#storageKey === null) return;
    const { storage } = this.#options;
    try {
      if (changes.length) storage.setItem(this.#storageKey, JSON.stringify(changes));
      else storage.removeItem(this.#storageKey);
    } catch {
      // The browser's storage is full or switched off: the changes are still in memory and are sent all the same.
    }
  }
}

function restore(storage: KeyValueStorage, storageKey: string): QueuedChange[] {
  try {
    const changes: unknown = JSON.parse(storage.getItem(storageKey) ?? "[]");
    return Array.isArray(changes) ? changes.filter(isQueuedChange) : [];
  } catch {
    return [];
  }
}

function isQueuedChange(value: unknown): value is QueuedChange {
  const change = value as QueuedChange | null;
  return (
    typeof change === "object" &&
    Number.isInteger(change?.cell) &&
    (change?.class === null || Number.isInteger(change?.class)) &&
    typeof change?.annotator === "string"
  );
}
