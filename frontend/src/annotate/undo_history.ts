/** Steps that can be undone. An undone step is stored as ordinary changes: the project keeps every change. */
import type { LabelChange } from "./types.ts";

export interface Step {
  /** Class of each cell before and after; null is no label. */
  readonly cells: readonly { readonly cell: number; readonly before: number | null; readonly after: number | null }[];
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

  undo(): LabelChange[] {
    const step = this.#done.pop();
    if (!step) return [];
    this.#undone.push(step);
    return step.cells.map(({ cell, before }) => ({ cell, class: before }));
  }

  redo(): LabelChange[] {
    const step = this.#undone.pop();
    if (!step) return [];
    this.#done.push(step);
    return step.cells.map(({ cell, after }) => ({ cell, class: after }));
  }
}
