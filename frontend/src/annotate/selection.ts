/** Which cells are selected besides the active one. Cells, not positions: a selection survives another order. */
export class Selection {
  #cells: ReadonlySet<number> = new Set();
  /** Position from which a range with Shift begins. */
  #anchor = 0;

  get size(): number {
    return this.#cells.size;
  }

  has = (cell: number): boolean => this.#cells.has(cell);

  cells(): number[] {
    return [...this.#cells];
  }

  clear(anchor = this.#anchor): void {
    this.#cells = new Set();
    this.#anchor = anchor;
  }

  toggle(cell: number, position: number): void {
    const cells = new Set(this.#cells);
    if (!cells.delete(cell)) cells.add(cell);
    this.#cells = cells;
    this.#anchor = position;
  }

  /** Select from the anchor to a position, both included. */
  extendTo(order: Uint32Array, position: number): void {
    const [first, last] = this.#anchor < position ? [this.#anchor, position] : [position, this.#anchor];
    this.#cells = new Set(order.subarray(first, last + 1));
  }

  selectAll(order: Uint32Array): void {
    this.#cells = new Set(order);
  }
}
