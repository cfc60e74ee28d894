/** What the server's routes send. */

export interface ModelInfo {
  readonly recipe: string;
  readonly training_data: string;
  readonly training_subset: string;
  readonly test_accuracy: number | null;
  readonly test_setup: string | null;
  readonly cross_validation: { readonly n: number; readonly accuracy: number } | null;
  readonly detects_ood: boolean;
  readonly input: {
    readonly channels: number;
    readonly height: number;
    readonly width: number;
    readonly white_level: number | null;
  };
  readonly limitations: readonly string[];
}

export interface Model {
  readonly name: string;
  readonly class_names: readonly string[];
  readonly default: boolean;
  readonly model: ModelInfo;
}

export interface ServerInfo {
  readonly version: string;
  readonly reference_cells: {
    readonly n_cells: number;
    readonly title: string;
    readonly trained_on: boolean;
  } | null;
  /** What can find the nuclei of a stack without a mask. */
  readonly segmenters: readonly string[];
  readonly limits: Readonly<Record<"predict" | "batch" | "stack", { readonly max_upload_bytes: number }>>;
}

export interface Sample {
  readonly name: string;
  readonly preview: string;
  readonly synthetic: boolean;
  readonly true_class: string;
  readonly source: string;
}

export interface SaliencyMap {
  readonly method: string;
  readonly values: readonly (readonly number[])[];
}

export interface SimilarCell {
  readonly label: number;
  readonly class_name: string;
  readonly similarity: number;
  readonly preview: string;
}

/** Where a nucleus of a stack is, and how large it is. */
export interface Position {
  readonly id?: number | null;
  readonly z?: number | null;
  readonly y?: number | null;
  readonly x?: number | null;
  readonly z_um?: number | null;
  readonly y_um?: number | null;
  readonly x_um?: number | null;
  readonly volume_voxels?: number | null;
  readonly volume_um3?: number | null;
  readonly at_border?: boolean | null;
  readonly intensity_mean?: number | null;
}

/** The prediction for a cell or, with an error, the file or cell that has none. */
export interface Prediction extends Position {
  readonly file: string;
  readonly index: number;
  readonly label: number | null;
  readonly class_name: string | null;
  readonly probabilities: readonly number[] | null;
  readonly prediction_set: readonly number[] | null;
  readonly is_ood: boolean | null;
  readonly error: string | null;
  readonly split?: string;
  readonly ood_reasons?: readonly string[];
  readonly notes?: readonly string[];
  readonly pixels?: string | null;
  readonly saliency_map?: SaliencyMap | null;
  readonly similar_cells?: readonly SimilarCell[];
}

/** The last line of a stream. */
export interface StreamEnd {
  readonly done: boolean;
  readonly error?: string;
  readonly notes?: readonly string[];
}

export interface StackProgress {
  readonly stage: string;
  readonly share: number;
}
