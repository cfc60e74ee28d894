/** The grid of cells, with its keys. */
import { useCallback } from "preact/hooks";
import { CanvasGrid } from "../grid/canvas_grid.tsx";
import { moveTarget } from "../grid/moves.ts";
import { paintTile, type TileTheme } from "../grid/paint_tile.ts";
import { type Command, commandOf } from "./keys.ts";
import type { OpenDialog } from "./page.tsx";
import type { Session } from "./session.ts";
import { useSession } from "./session_context.ts";

export function Gallery({ onOpen }: { readonly onOpen: (dialog: OpenDialog) => void }) {
  const session = useSession();
  const order = session.order.value;
  const paint = useCallback(
    (context: CanvasRenderingContext2D, position: number, x: number, y: number, theme: TileTheme) =>
      paintCell(session, context, position, x, y, theme),
    [session],
  );
  if (!session.isOrderLoaded.value) return <p class="empty-gallery muted">Sorting the cells ...</p>;
  if (order.length === 0) return <p class="empty-gallery muted">No cell passes the filters.</p>;
  return (
    <CanvasGrid
      label="Cells"
      n={order.length}
      tile={session.tile.value}
      active={session.currentPosition}
      isSelected={(position) => session.selection.has(order[position] as number)}
      describe={session.describe}
      paint={paint}
      onView={session.onView}
      onPick={(position, event) => {
        if (event.shiftKey) session.moveTo(position, true);
        else if (event.ctrlKey || event.metaKey) session.toggle(position);
        else {
          session.moveTo(position);
          session.openCard(order[position] as number);
        }
      }}
      onKeyDown={(event) => {
        const command = commandOf(event);
        if (!command) return;
        event.preventDefault();
        runCommand(session, command, onOpen);
      }}
      version={session.gridVersion}
    />
  );
}

export function runCommand(session: Session, command: Command, onOpen: (dialog: OpenDialog) => void): void {
  switch (command.kind) {
    case "label": {
      const item = session.project.value?.classes[command.index];
      if (item) session.labeling.labelSelected(item.id);
      else session.notify(`There is no class ${command.index + 1}: add it first.`);
      break;
    }
    case "move": {
      const n = session.order.value.length;
      const target = moveTarget(command.to, session.active.value, n, session.columns, session.visibleRows);
      session.moveTo(target, command.extend);
      break;
    }
    case "unlabel":
      session.labeling.labelSelected(null);
      break;
    case "open":
      session.card.value = session.currentCell;
      break;
    case "close":
      if (session.selection.size) session.clearSelection();
      else session.card.value = null;
      break;
    case "undo":
      session.labeling.undo();
      break;
    case "redo":
      session.labeling.redo();
      break;
    case "next-unsure":
      void session.nextUnsure();
      break;
    case "re-sort":
      void session.reSort();
      break;
    case "toggle":
      session.toggle(session.active.value);
      break;
    case "select-all":
      session.selectAll();
      break;
    case "help":
      onOpen("keys");
      break;
    case "label-all":
      onOpen("label-all");
      break;
  }
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
  const images = session.images.cache;
  if (cell === undefined || !images) return;
  const info = session.cells.get(cell);
  const label = session.classOf(session.cells.label(cell));
  const predicted = session.classOf(info?.class ?? null);
  const marks = {
    frame: label?.color ?? null,
    bar: label ? null : (predicted?.color ?? null),
    barLength: info?.probability ?? 0,
    isSelected: session.selection.has(cell),
    isOod: info?.is_ood ?? false,
    isSuspicious: info?.is_suspicious ?? false,
    isUnsaved: session.queue.unsavedLabel(cell) !== undefined,
  };
  paintTile(context, x, y, session.tile.value, images.get(cell), images, marks, theme);
}
