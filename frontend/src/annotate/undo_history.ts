/** Steps that can be undone. An undone step is stored as changes that take others back: the project keeps every change. */
import type { LabelChange } from "./types.ts";

export interface Step {
  /** Who made it: undone and redone, too, it is theirs. */
  readonly annotator: string;
  /** Class of each cell before, as far as the page knows, and after; null is no label. */
  readonly cells: readonly { readonly cell: number; readonly before: number | null; readonly after: number | null }[];
}

export interface StepChanges {
  readonly annotator: string;
  readonly changes: readonly LabelChange[];
}

const MAX_STEPS = 200;

export class UndoHistory {
  #done: Step[] = [];
  #undone: Step[] = [];

  get canUndo(): boolean {
    return this.#done.length > 0;
  }

  get canRedo(): boolean {
    return this.#undone.length > 0;
  }

  record(step: Step): void {
    this.#done.push(step);
    if (this.#done.length > MAX_STEPS) this.#done.shift();
    this.#undone = [];
  }

  undo(): StepChanges | null {
    const step = this.#done.pop();
    if (!step) return null;
    this.#undone.push(step);
    const changes = step.cells.map(({ cell, before }) => ({ cell, class: before, undo: true as const }));
    return { annotator: step.annotator, changes };
  }

  redo(): StepChanges | null {
    const step = this.#undone.pop();
    if (!step) return null;
    this.#done.push(step);
    return { annotator: step.annotator, changes: step.cells.map(({ cell, after }) => ({ cell, class: after })) };
  }
}
