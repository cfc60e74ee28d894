/** Pictures of cells, in strips of one request each; the strips that were not drawn for the longest time are dropped. */

import { brighten } from "./brighten.ts";

/** Size of a cell's image, in pixels. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

export interface CellPicture {
  readonly bitmap: CanvasImageSource;
  /** Top of the cell in the strip, in pixels. */
  readonly top: number;
}

interface Strip {
  readonly bitmap: ImageBitmap;
  readonly cells: number[];
  lastUse: number;
}

const MAX_BYTES = 96e6;
const MAX_STRIP_HEIGHT = 8192;
const MAX_BATCH = 256;

export class ImageCache implements ImageSize {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly #strips = new Set<Strip>();
  readonly #byCell = new Map<number, { strip: Strip; picture: CellPicture }>();
  #clock = 0;

  readonly #isBrightened: boolean;

  /** Colors stay as they are where cells are brightened. */
  constructor(shape: { height: number; width: number; channels: number }, isBrightened = false) {
    this.#isBrightened = isBrightened && shape.channels === 1;
    ({ height: this.height, width: this.width, channels: this.channels } = shape);
  }

  /** Cells per strip. */
  get batchSize(): number {
    return Math.max(1, Math.min(MAX_BATCH, Math.floor(MAX_STRIP_HEIGHT / this.height)));
  }

  has = (cell: number): boolean => this.#byCell.has(cell);

  get(cell: number): CellPicture | undefined {
    const entry = this.#byCell.get(cell);
    if (entry) entry.strip.lastUse = ++this.#clock;
    return entry?.picture;
  }

  /** Store the uint8 images of `cells`, one after another. */
  async add(cells: number[], pixels: Uint8Array): Promise<void> {
    const shown = this.#isBrightened ? brighten(pixels, this.width * this.height) : pixels;
    const image = new ImageData(toRgba(shown, this.channels), this.width, this.height * cells.length);
    const bitmap = await createImageBitmap(image);
    const strip: Strip = { bitmap, cells, lastUse: ++this.#clock };
    this.#strips.add(strip);
    cells.forEach((cell, i) => {
      this.#byCell.set(cell, { strip, picture: { bitmap, top: i * this.height } });
    });
    this.#evict(strip);
  }

  #evict(newest: Strip): void {
    const bytes = (strip: Strip) => 4 * strip.bitmap.width * strip.bitmap.height;
    let total = 0;
    for (const strip of this.#strips) total += bytes(strip);
    if (total <= MAX_BYTES) return;
    for (const strip of [...this.#strips].sort((a, b) => a.lastUse - b.lastUse)) {
      if (total <= MAX_BYTES || strip === newest) return;
      total -= bytes(strip);
      this.#strips.delete(strip);
      for (const cell of strip.cells) if (this.#byCell.get(cell)?.strip === strip) this.#byCell.delete(cell);
      strip.bitmap.close();
    }
  }
}

export function toRgba(pixels: Uint8Array, channels: number): Uint8ClampedArray<ArrayBuffer> {
  const n = pixels.length / channels;
  const rgba = new Uint8ClampedArray(4 * n);
  for (let i = 0; i < n; i++) {
    const source = i * channels;
    rgba[4 * i] = pixels[source] as number;
    rgba[4 * i + 1] = pixels[channels === 1 ? source : source + 1] as number;
    rgba[4 * i + 2] = pixels[channels === 1 ? source : source + 2] as number;
    rgba[4 * i + 3] = 255;
  }
  return rgba;
}
