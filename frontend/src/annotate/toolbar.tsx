/** What the gallery shows and in which order, and what can be done with all of it. */
import { TileSize } from "../grid/tile_size.tsx";
import { BrightenButton } from "../shared/brighten_button.tsx";
import { FilterMenu } from "../shared/filter_menu.tsx";
import { formatCount, plural } from "../shared/format.ts";
import { FILTER_NAMES } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";
import { SortControls } from "./sort_controls.tsx";
import type { Project } from "./types.ts";

export function Toolbar({ onLabelAll }: { readonly onLabelAll: () => void }) {
  const session = useSession();
  const n = session.order.value.length;
  const nSelected = session.selectionSize.value;
  session.gridVersion.value; // undo and redo become possible with a label
  return (
    <div class="toolbar" role="toolbar" aria-label="Gallery">
      <SortControls />
      <FilterMenu
        names={FILTER_NAMES}
        classes={(session.project.value as Project).classes}
        query={session.query.value}
        onChange={(change) => session.setQuery(change)}
      />
      <BrightenButton isOn={session.isBrightened} />
      <TileSize tile={session.tile} />
      <span class="spacer" />
      <span class="muted" id="shown" role="status">
        {nSelected > 0 ? `${formatCount(nSelected)} selected` : plural(n, "cell")}
      </span>
      <button type="button" disabled={!session.labeling.history.canUndo} onClick={() => session.labeling.undo()}>
        Undo
      </button>
      <button type="button" disabled={!session.labeling.history.canRedo} onClick={() => session.labeling.redo()}>
        Redo
      </button>
      <button type="button" onClick={() => session.nextUnsure()}>
        Next unsure
      </button>
      <button type="button" class="wide-only" onClick={() => session.reSort()}>
        Sort again
      </button>
      <button type="button" disabled={n === 0} onClick={onLabelAll}>
        Label all shown
      </button>
    </div>
  );
}
