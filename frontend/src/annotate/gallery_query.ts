/** Which cells the gallery shows, and in which order. */

export type Sort = "uncertainty" | "ood" | "similarity" | "position" | "probability" | "suspicious" | "recent";

export const SORT_NAMES: Readonly<Record<Sort, string>> = {
  uncertainty: "Least certain first",
  probability: "Probability of a class",
  similarity: "Similarity to a cell",
  ood: "Out-of-distribution score",
  suspicious: "Labels that look wrong",
  recent: "Last labeled",
  position: "Position in the data",
};

export type Filter = "unlabeled" | "unsure" | "ood" | "mine" | "disagrees";

export const FILTER_NAMES: Readonly<Record<Filter, string>> = {
  unlabeled: "Unlabeled",
  unsure: "Unsure",
  ood: "Out of distribution",
  mine: "Labeled by me",
  disagrees: "Annotators disagree",
};

export interface GalleryQuery {
  readonly sort: Sort;
  /** Class of the sort "probability". */
  readonly sortClass: number | null;
  /** Cell of the sort "similarity". */
  readonly similarTo: number | null;
  readonly descending: boolean;
  readonly filters: readonly Filter[];
  /** Show only cells labeled or, without a label, predicted as this class. */
  readonly filterClass: number | null;
}

export const DEFAULT_QUERY: GalleryQuery = {
  sort: "uncertainty",
  sortClass: null,
  similarTo: null,
  descending: false,
  filters: [],
  filterClass: null,
};

export function queryParams(query: GalleryQuery, annotator: string): URLSearchParams {
  const params = new URLSearchParams({ sort: query.sort });
  if (query.sort === "probability" && query.sortClass !== null) params.set("class", String(query.sortClass));
  if (query.sort === "similarity" && query.similarTo !== null) params.set("to", String(query.similarTo));
  if (query.descending) params.set("descending", "true");
  for (const filter of query.filters) params.append("filter", filter);
  if (query.filterClass !== null) params.append("filter", `class:${query.filterClass}`);
  if (query.filters.includes("mine")) params.set("annotator", annotator);
  return params;
}
