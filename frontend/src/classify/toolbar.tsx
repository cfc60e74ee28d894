/** What the gallery shows, and in which order. */
import { TileSize } from "../grid/tile_size.tsx";
import { BrightenButton } from "../shared/brighten_button.tsx";
import { ClassSelect } from "../shared/class_select.tsx";
import { FilterMenu } from "../shared/filter_menu.tsx";
import { plural } from "../shared/format.ts";
import { ReverseButton } from "../shared/reverse_button.tsx";
import { FILTER_NAMES, SORT_NAMES, type Sort } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";

export function Toolbar() {
  const session = useSession();
  const query = session.query.value;
  const classes = (session.model.value?.class_names ?? []).map((name, id) => ({ id, name }));
  return (
    <div class="toolbar" role="toolbar" aria-label="Gallery">
      <label>
        <span class="visually-hidden">Sort by</span>
        <select
          id="sort"
          value={query.sort}
          onChange={(event) => session.setQuery({ sort: event.currentTarget.value as Sort, descending: false })}
        >
          {Object.entries(SORT_NAMES).map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {query.sort === "probability" && (
        <label>
          <span class="visually-hidden">Class to sort by</span>
          <ClassSelect
            id="sort-class"
            classes={classes}
            value={query.sortClass}
            onChange={(id) => session.setQuery({ sortClass: id ?? 0 })}
          />
        </label>
      )}
      <ReverseButton isOn={query.descending} onClick={() => session.setQuery({ descending: !query.descending })} />
      <FilterMenu
        names={FILTER_NAMES}
        classes={classes}
        query={query}
        onChange={(change) => session.setQuery(change)}
      />
      <BrightenButton isOn={session.isBrightened} />
      <TileSize tile={session.tile} />
      <span class="spacer" />
      <span class="muted" id="shown" role="status">
        {plural(session.order.value.length, "cell")}
      </span>
    </div>
  );
}
