/** Labels cells, and undoes and redoes it. */
import { plural } from "../shared/format.ts";
import type { Session } from "./session.ts";
import type { LabelChange } from "./types.ts";
import { type StepChanges, UndoHistory } from "./undo_history.ts";

export class Labeling {
  readonly history = new UndoHistory();
  readonly #session: Session;

  constructor(session: Session) {
    this.#session = session;
  }

  /** Label the selected cells, or the current one, and go on to the next that the gallery shows. */
  labelSelected(id: number | null): void {
    const order = this.#session.order.value;
    const selected = this.#session.selection.cells();
    if (selected.length) {
      const last = findLast(order, this.#session.selection.has);
      this.labelCells(selected, id);
      this.#session.moveTo(Math.min(last + 1, order.length - 1));
      return;
    }
    const cell = this.#session.currentCell;
    if (cell === null) return;
    this.labelCells([cell], id);
    const position = this.#session.currentPosition;
    if (position >= 0) this.#session.moveTo(Math.min(position + 1, order.length - 1));
  }

  labelAllShown(id: number | null): void {
    this.labelCells([...this.#session.order.value], id);
  }

  labelCells(cells: readonly number[], id: number | null): void {
    if (cells.length === 0) return;
    const annotator = this.#session.annotatorName;
    const before = (cell: number) => this.#session.cells.label(cell);
    this.history.record({ annotator, cells: cells.map((cell) => ({ cell, before: before(cell), after: id })) });
    this.#store({ annotator, changes: cells.map((cell) => ({ cell, class: id })) });
    if (cells.length > 1)
      this.#session.notify(`${plural(cells.length, "cell")}: ${this.#session.className(id) ?? "label removed"}`);
  }

  undo(): void {
    this.#step(this.history.undo(), "Undone");
  }

  redo(): void {
    this.#step(this.history.redo(), "Redone");
  }

  #step(step: StepChanges | null, verb: string): void {
    if (!step) return;
    this.#store(step);
    this.#session.notify(`${verb}: ${plural(step.changes.length, "label")}`);
    const position = this.#session.order.value.indexOf((step.changes[0] as LabelChange).cell);
    if (position >= 0) this.#session.moveTo(position);
  }

  #store({ annotator, changes }: StepChanges): void {
    this.#session.queue.push(annotator, changes);
    this.#session.redraw();
  }
}

function findLast(order: Uint32Array, condition: (cell: number) => boolean): number {
  for (let position = order.length - 1; position >= 0; position--)
    if (condition(order[position] as number)) return position;
  return -1;
}
