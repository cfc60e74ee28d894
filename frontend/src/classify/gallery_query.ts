/** Which cells the gallery shows, and in which order. */
import { type CellResult, isCell, type Result, topProbability } from "./result_store.ts";

export type Sort = "position" | "uncertainty" | "probability";

export const SORT_NAMES: Readonly<Record<Sort, string>> = {
  position: "Order of the files",
  uncertainty: "Least certain first",
  probability: "Probability of a class",
};

export type Filter = "unsure" | "ood";

export const FILTER_NAMES: Readonly<Record<Filter, string>> = {
  unsure: "Unsure",
  ood: "Out of distribution",
};

export interface GalleryQuery {
  readonly sort: Sort;
  /** Class of the sort "probability". */
  readonly sortClass: number;
  readonly descending: boolean;
  readonly filters: readonly Filter[];
  /** Show only cells of this predicted class. */
  readonly filterClass: number | null;
}

export const DEFAULT_QUERY: GalleryQuery = {
  sort: "position",
  sortClass: 0,
  descending: false,
  filters: [],
  filterClass: null,
};

const PASSES: Readonly<Record<Filter, (result: CellResult) => boolean>> = {
  unsure: (result) => result.prediction_set.length !== 1,
  ood: (result) => result.is_ood === true,
};

/** The positions of the results that pass, in order; errors are no cells. */
export function galleryOrder(results: readonly Result[], query: GalleryQuery): Uint32Array {
  const cells: number[] = [];
  const keys = new Float64Array(results.length);
  results.forEach((result, i) => {
    if (!isCell(result)) return;
    if (query.filterClass !== null && result.label !== query.filterClass) return;
    if (!query.filters.every((filter) => PASSES[filter](result))) return;
    keys[i] = sortKey(result, i, query);
    cells.push(i);
  });
  const order = Uint32Array.from(cells);
  if (query.sort !== "position") order.sort((a, b) => (keys[a] as number) - (keys[b] as number) || a - b);
  return query.descending ? order.reverse() : order;
}

function sortKey(result: CellResult, i: number, { sort, sortClass }: GalleryQuery): number {
  if (sort === "uncertainty") return topProbability(result);
  return sort === "probability" ? -(result.probabilities[sortClass] ?? 0) : i;
}
