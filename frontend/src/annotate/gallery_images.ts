/** The images of cells: those in view first, then those that a card shows besides. */
import { BatchLoader } from "../grid/batch_loader.ts";
import { ImageCache } from "../grid/image_cache.ts";
import { getImages } from "./project_api.ts";
import type { Project } from "./types.ts";

const MAX_EXTRA = 64;

export class GalleryImages {
  cache: ImageCache | null = null;
  #loader: BatchLoader | null = null;
  #image: Project["image"] | null = null;
  #isBrightened = false;
  #inView: readonly number[] = [];
  #extra: readonly number[] = [];
  readonly #onLoad: () => void;

  constructor(onLoad: () => void) {
    this.#onLoad = onLoad;
  }

  /** Take the size of a project's images; images that are loaded stay if it is the same. */
  open(image: Project["image"]): void {
    if (this.cache?.height === image.height && this.cache.width === image.width) return;
    this.#image = image;
    this.#openCache();
  }

  /** Show dark cells brighter from now on, or all as they are stored. */
  setBrightened(isBrightened: boolean): void {
    this.#isBrightened = isBrightened;
    this.#openCache();
    this.setView(this.#inView);
  }

  #openCache(): void {
    if (!this.#image) return;
    const cache = new ImageCache(this.#image, this.#isBrightened);
    this.cache = cache;
    this.#loader = new BatchLoader({
      size: cache.batchSize,
      concurrency: 2,
      load: async (cells) => cache.add(cells, await getImages(cells)),
      isLoaded: cache.has,
      onLoad: this.#onLoad,
    });
  }

  /** Load the images in view, in this order. */
  setView(cells: readonly number[]): void {
    this.#inView = cells;
    this.#loader?.want([...cells, ...this.#extra]);
  }

  /** Load images of cells outside of the gallery too. */
  addExtra(cells: readonly number[]): void {
    this.#extra = [...cells, ...this.#extra.filter((cell) => !cells.includes(cell))].slice(0, MAX_EXTRA);
    this.#loader?.want([...this.#inView, ...this.#extra]);
  }
}
