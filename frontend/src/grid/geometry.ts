/** Where the cells of a grid are: positions from 0 in rows of equal squares. All lengths are CSS pixels. */

export interface Geometry {
  readonly columns: number;
  readonly rows: number;
  readonly tile: number;
  readonly gap: number;
  /** Space left of the first column, so that the rows are centered. */
  readonly left: number;
  readonly height: number;
}

export interface Rect {
  readonly x: number;
  readonly y: number;
}

export function gridGeometry(n: number, width: number, tile: number, gap: number): Geometry {
  const columns = Math.max(1, Math.floor((width - gap) / (tile + gap)));
  const rows = Math.ceil(n / columns);
  const left = Math.max(gap, Math.floor((width - columns * (tile + gap) + gap) / 2));
  return { columns, rows, tile, gap, left, height: gap + rows * (tile + gap) };
}

export function tileRect(geometry: Geometry, position: number): Rect {
  const pitch = geometry.tile + geometry.gap;
  const row = Math.floor(position / geometry.columns);
  return { x: geometry.left + (position % geometry.columns) * pitch, y: geometry.gap + row * pitch };
}

/** First and past-the-last position of the rows that `top` to `bottom` show. */
export function visibleRange(geometry: Geometry, n: number, top: number, bottom: number): [number, number] {
  const pitch = geometry.tile + geometry.gap;
  const first = Math.max(0, Math.floor((top - geometry.gap) / pitch));
  const last = Math.min(geometry.rows, Math.ceil((bottom - geometry.gap) / pitch));
  return [Math.min(n, first * geometry.columns), Math.min(n, Math.max(first, last) * geometry.columns)];
}

/** The position at a point, or null in a gap and beyond the last cell. */
export function positionAt(geometry: Geometry, n: number, x: number, y: number): number | null {
  const pitch = geometry.tile + geometry.gap;
  const column = Math.floor((x - geometry.left) / pitch);
  const row = Math.floor((y - geometry.gap) / pitch);
  if (column < 0 || column >= geometry.columns || row < 0) return null;
  if (x - geometry.left - column * pitch > geometry.tile || y - geometry.gap - row * pitch > geometry.tile) return null;
  const position = row * geometry.columns + column;
  return position < n ? position : null;
}

/** The scroll offset that shows a position with a little room, or null if it is in view. */
export function scrollToShow(geometry: Geometry, position: number, top: number, viewHeight: number): number | null {
  const { y } = tileRect(geometry, position);
  const margin = geometry.gap + 4;
  if (y - margin < top) return Math.max(0, y - margin);
  const bottom = y + geometry.tile + margin;
  return bottom > top + viewHeight ? bottom - viewHeight : null;
}
