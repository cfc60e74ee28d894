/** The order of the cells in the gallery. A new order never moves what is on the screen, so that no key labels another cell
 * than the one that was looked at. */

/** Keep the first `nFixed` cells of `shown`, and continue with `next` without them. */
export function continueOrder(shown: Uint32Array, next: Uint32Array, nFixed: number): Uint32Array {
  const fixed = shown.subarray(0, nFixed);
  if (fixed.length === 0) return next;
  const isFixed = new Set(fixed);
  const rest = next.filter((cell) => !isFixed.has(cell));
  const order = new Uint32Array(fixed.length + rest.length);
  order.set(fixed);
  order.set(rest, fixed.length);
  return order;
}

/** Position of the first cell from `start` that satisfies a condition, going round once; -1 if there is none. */
export function findPosition(order: Uint32Array, start: number, condition: (cell: number) => boolean): number {
  for (let i = 0; i < order.length; i++) {
    const position = (start + i) % order.length;
    if (condition(order[position] as number)) return position;
  }
  return -1;
}

/** Cells as the server sends them: little-endian uint32. */
export function decodeOrder(buffer: ArrayBuffer): Uint32Array {
  if (new Uint8Array(new Uint32Array([1]).buffer)[0] === 1) return new Uint32Array(buffer);
  const view = new DataView(buffer);
  return Uint32Array.from({ length: buffer.byteLength / 4 }, (_, i) => view.getUint32(4 * i, true));
}
