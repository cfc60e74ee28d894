/** All results since the page was cleared: predictions, errors, and the pixels of the cells. */
import type { Prediction } from "./types.ts";

export interface Result extends Prediction {
  /** Whether its file has several cells, so that a name needs the index. */
  readonly hasSeveralCells: boolean;
  /** How often prediction sets contain the true class. */
  readonly coverage: number;
}

/** A result that is a prediction. */
export interface CellResult extends Result {
  readonly label: number;
  readonly class_name: string;
  readonly probabilities: readonly number[];
  readonly prediction_set: readonly number[];
}

/** The images that the page keeps: of the model's 28 x 28 pixels, those of more cells than an upload may have. */
export const MAX_PIXEL_BYTES = 256 << 20;
export const NO_IMAGE = `No image: the page keeps ${MAX_PIXEL_BYTES >> 20} MB of images, and this cell came after them.`;

export const isCell = (result: Result): result is CellResult => result.error === null;
export const topProbability = (result: CellResult): number => result.probabilities[result.label] ?? 0;

export function displayName(result: Result): string {
  if (typeof result.id === "number") return `${result.file}, nucleus ${result.id}`;
  const split = result.split ? `, ${result.split}` : "";
  return result.file + split + (result.hasSeveralCells ? `, ${result.index}` : "");
}

export class ResultStore {
  /** In the order in which they arrived; positions name cells in the gallery. */
  readonly results: Result[] = [];
  readonly #pixels: (Uint8Array | null)[] = [];
  #nPixelBytes = 0;
  #nErrors = 0;
  #nOod = 0;

  readonly #maxPixelBytes: number;

  constructor(maxPixelBytes = MAX_PIXEL_BYTES) {
    this.#maxPixelBytes = maxPixelBytes;
  }

  get nErrors(): number {
    return this.#nErrors;
  }

  get nCells(): number {
    return this.results.length - this.#nErrors;
  }

  get nOod(): number {
    return this.#nOod;
  }

  add(predictions: readonly Prediction[], coverage: number): void {
    const multiCellFiles = new Set(predictions.filter(({ index }) => index > 0).map(({ file }) => file));
    for (const { pixels, ...prediction } of predictions) {
      const hasSeveralCells = multiCellFiles.has(prediction.file) || isNpz(prediction.file);
      this.results.push({ ...prediction, hasSeveralCells, coverage });
      this.#addPixels(pixels ? decodeBase64(pixels) : null);
      if (prediction.error !== null) this.#nErrors++;
      else if (prediction.is_ood) this.#nOod++;
    }
  }

  #addPixels(pixels: Uint8Array | null): void {
    const fits = pixels !== null && this.#nPixelBytes + pixels.length <= this.#maxPixelBytes;
    this.#pixels.push(fits ? pixels : null);
    if (fits) this.#nPixelBytes += pixels.length;
  }

  /** The cell as the model sees it, or null where it is not kept. */
  pixels(cell: number): Uint8Array | null {
    return this.#pixels[cell] ?? null;
  }

  clear(): void {
    this.results.length = this.#pixels.length = 0;
    this.#nErrors = this.#nOod = this.#nPixelBytes = 0;
  }

  /** How many cells each of the classes has. */
  countClasses(nClasses: number): number[] {
    const counts = new Array<number>(nClasses).fill(0);
    for (const result of this.results) if (isCell(result)) counts[result.label] = (counts[result.label] ?? 0) + 1;
    return counts;
  }

  errors(): Result[] {
    return this.#nErrors ? this.results.filter((result) => !isCell(result)) : [];
  }
}

export const isNpz = (name: string): boolean => name.toLowerCase().endsWith(".npz");

function decodeBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
