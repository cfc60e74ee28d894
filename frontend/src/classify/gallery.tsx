/** The grid of cells, with its keys. */
import { useCallback } from "preact/hooks";
import { CanvasGrid } from "../grid/canvas_grid.tsx";
import { moveOf, moveTarget } from "../grid/moves.ts";
import { paintTile, type TileTheme } from "../grid/paint_tile.ts";
import { topProbability } from "./result_store.ts";
import { colorOf, type Session } from "./session.ts";
import { useSession } from "./session_context.ts";

export function Gallery() {
  const session = useSession();
  const order = session.order.value;
  const paint = useCallback(
    (context: CanvasRenderingContext2D, position: number, x: number, y: number, theme: TileTheme) =>
      paintCell(session, context, position, x, y, theme),
    [session],
  );
  if (order.length === 0) return <p class="empty-gallery muted">No cell passes the filters.</p>;
  const open = (position: number) => session.openCard(order[position] as number);
  return (
    <CanvasGrid
      label="Cells"
      n={order.length}
      tile={session.tile.value}
      active={session.active.value}
      isSelected={(position) => order[position] === session.card.value}
      describe={session.describe}
      paint={paint}
      onView={session.onView}
      onPick={(position) => {
        session.moveTo(position);
        open(position);
      }}
      onKeyDown={(event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const to = moveOf(event.key);
        if (to) {
          session.moveTo(moveTarget(to, session.active.value, order.length, session.columns, session.visibleRows));
        } else if (event.key === "Enter" || event.key === " ") open(session.active.value);
        else if (event.key === "Escape") session.card.value = null;
        else return;
        event.preventDefault();
      }}
      version={session.gridVersion}
    />
  );
}

function paintCell(
  session: Session,
  context: CanvasRenderingContext2D,
  position: number,
  x: number,
  y: number,
  theme: TileTheme,
): void {
  const cell = session.order.value[position];
  const result = session.cell(position);
  if (cell === undefined || !result || !session.images) return;
  const color = colorOf(result.label);
  const marks = {
    frame: color,
    bar: color,
    barLength: topProbability(result),
    isSelected: session.card.value === cell,
    isOod: result.is_ood ?? false,
  };
  paintTile(context, x, y, session.tile.value, session.images.get(cell), session.images, marks, theme);
}
