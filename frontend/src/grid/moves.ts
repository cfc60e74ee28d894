/** Where keys move the active cell of a grid. */

export const MOVES = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
  PageUp: "pageup",
  PageDown: "pagedown",
  Home: "home",
  End: "end",
} as const;

export type Move = (typeof MOVES)[keyof typeof MOVES];

export const moveOf = (key: string): Move | null => (key in MOVES ? MOVES[key as keyof typeof MOVES] : null);

/** The position that a move leads to. */
export function moveTarget(to: Move, position: number, n: number, columns: number, pageRows: number): number {
  const steps = {
    left: -1,
    right: 1,
    up: -columns,
    down: columns,
    pageup: -columns * pageRows,
    pagedown: columns * pageRows,
    home: -position,
    end: n - 1 - position,
  };
  const target = position + steps[to];
  if ((to === "up" || to === "down") && (target < 0 || target >= n)) return position;
  return Math.max(0, Math.min(n - 1, target));
}
