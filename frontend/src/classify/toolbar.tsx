/** What the gallery shows, and in which order. */
import { TileSize } from "../grid/tile_size.tsx";
import { FilterMenu } from "../shared/filter_menu.tsx";
import { plural } from "../shared/format.ts";
import { ReverseButton } from "../shared/reverse_button.tsx";
import { FILTER_NAMES, SORT_NAMES, type Sort } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";

export function Toolbar() {
  const session = useSession();
  const query = session.query.value;
  const names = session.model.value?.class_names ?? [];
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
          <select
            id="sort-class"
            value={query.sortClass}
            onChange={(event) => session.setQuery({ sortClass: Number(event.currentTarget.value) })}
          >
            <ClassOptions names={names} />
          </select>
        </label>
      )}
      <ReverseButton isOn={query.descending} onClick={() => session.setQuery({ descending: !query.descending })} />
      <FilterMenu
        names={FILTER_NAMES}
        filters={query.filters}
        hasClass={query.filterClass !== null}
        onChange={(filters) => session.setQuery({ filters })}
      >
        <label>
          Class
          <select
            id="filter-class"
            value={query.filterClass ?? ""}
            onChange={(event) => {
              const { value } = event.currentTarget;
              session.setQuery({ filterClass: value === "" ? null : Number(value) });
            }}
          >
            <option value="">all</option>
            <ClassOptions names={names} />
          </select>
        </label>
      </FilterMenu>
      <TileSize tile={session.tile} />
      <span class="spacer" />
      <span class="muted" id="shown" role="status">
        {plural(session.order.value.length, "cell")}
      </span>
    </div>
  );
}

function ClassOptions({ names }: { readonly names: readonly string[] }) {
  return names.map((name, label) => (
    <option key={label} value={label}>
      {name}
    </option>
  ));
}
