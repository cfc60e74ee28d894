/** What the routes below `project` send. */

export interface LabelClass {
  readonly id: number;
  readonly name: string;
  readonly color: string;
  readonly n_labels: number;
}

export interface Annotator {
  readonly name: string;
  readonly n_labels: number;
}

export interface ClassRecall {
  readonly class: number;
  readonly n_labels: number;
  readonly recall: number | null;
  readonly low: number | null;
  readonly high: number | null;
}

export interface ModelStatus {
  readonly revision: number;
  readonly features_done: number;
  readonly n_cells: number;
  readonly n_labels: number;
  readonly state: "features" | "few labels" | "fitting" | "ready";
  readonly accuracy: number | null;
  readonly low: number | null;
  readonly high: number | null;
  readonly gain_of_last_40: number | null;
  readonly recalls: readonly ClassRecall[];
  readonly n_suspicious: number;
  /** What keeps the work in the background from going on; else empty. */
  readonly error: string;
}

export interface Job {
  readonly id: string;
  readonly kind: string;
  readonly state: "queued" | "running" | "done" | "failed" | "canceled" | "interrupted";
  readonly progress: number | null;
  readonly message: string;
  /** Name of the run that the job makes, or exports. */
  readonly run?: string | null;
  /** Of an export. */
  readonly format?: string | null;
}

export interface Project {
  /** Tells it from the other projects that the server may be started with. */
  readonly id: string;
  readonly name: string;
  readonly revision: number;
  readonly n_cells: number;
  readonly image: { readonly height: number; readonly width: number; readonly channels: number };
  readonly classes: readonly LabelClass[];
  readonly annotators: readonly Annotator[];
  readonly model: ModelStatus;
  readonly jobs: readonly Job[];
  readonly has_stack: boolean;
  /** What can find the nuclei of a stack without a mask. */
  readonly segmenters: readonly string[];
  readonly token: string;
}

/** Labeled cells, also those that the model has not been fitted to yet. */
export const countLabels = ({ classes }: Project): number => classes.reduce((sum, { n_labels }) => sum + n_labels, 0);

export interface CellInfo {
  readonly cell: number;
  readonly label: number | null;
  readonly labels_by: Readonly<Record<string, number>>;
  readonly class: number | null;
  readonly probability: number | null;
  readonly set: readonly number[];
  readonly is_ood: boolean | null;
  readonly is_suspicious: boolean;
}

export interface CellCard extends CellInfo {
  readonly ood_score?: number | null;
  readonly ood_reasons?: readonly string[];
  readonly probabilities: readonly { readonly class: number; readonly probability: number }[];
  readonly similar: readonly { readonly cell: number; readonly similarity: number; readonly label: number | null }[];
  readonly history: readonly {
    readonly annotator: string;
    readonly class: number | null;
    readonly time: string | number;
    readonly is_undo: boolean;
  }[];
  readonly location: CellLocation | null;
  readonly image: string;
}

export interface CellLocation {
  readonly source: string;
  readonly id: number | null;
  readonly z: number | null;
  readonly y: number | null;
  readonly x: number | null;
}

export interface Tissue {
  readonly slices: readonly string[];
  readonly outlines: readonly string[];
  readonly z: readonly number[];
  readonly center: number;
  readonly neighbors: readonly {
    readonly cell: number;
    readonly slice: number;
    readonly y: number;
    readonly x: number;
  }[];
  readonly voxel_size: readonly number[] | null;
  readonly height: number;
  readonly width: number;
}

export interface Agreement {
  readonly a: string;
  readonly b: string;
  readonly n_both: number;
  readonly kappa: number | null;
  readonly n_disagree: number;
}

export interface Run {
  readonly name: string;
  readonly created?: string;
  readonly accuracy?: number | null;
  readonly method?: string;
  readonly n_labels?: number;
}

/** A label to store; a class of null removes the label. */
export interface LabelChange {
  readonly cell: number;
  readonly class: number | null;
  /** Take the annotator's last change of the cell back; `class` is what the page shows until the server has done so. */
  readonly undo?: true;
}
