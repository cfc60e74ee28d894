/** What the gallery shows, and in which order. */
import { plural } from "../shared/format.ts";
import { Menu } from "../shared/menu.tsx";
import { FILTER_NAMES, type Filter, SORT_NAMES, type Sort } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";

const SIZES = [
  { tile: 48, name: "Small" },
  { tile: 72, name: "Medium" },
  { tile: 112, name: "Large" },
] as const;

export function Toolbar() {
  const session = useSession();
  const query = session.query.value;
  const names = session.model.value?.class_names ?? [];
  const toggle = (filter: Filter) => {
    const isOn = query.filters.includes(filter);
    session.setQuery({
      filters: isOn ? query.filters.filter((other) => other !== filter) : [...query.filters, filter],
    });
  };
  const n = query.filters.length + (query.filterClass === null ? 0 : 1);
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
      <button
        type="button"
        class="quiet"
        aria-pressed={query.descending}
        aria-label="Reverse the order"
        title="Reverse the order"
        onClick={() => session.setQuery({ descending: !query.descending })}
      >
        ⇅
      </button>
      <Menu label={n > 0 ? `Filter (${n})` : "Filter"} isSet={n > 0}>
        {Object.entries(FILTER_NAMES).map(([value, name]) => (
          <label key={value} class="checkbox">
            <input
              type="checkbox"
              checked={query.filters.includes(value as Filter)}
              onChange={() => toggle(value as Filter)}
            />{" "}
            {name}
          </label>
        ))}
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
      </Menu>
      <label class="wide-only">
        <span class="visually-hidden">Size of the cells</span>
        <select
          value={session.tile.value}
          onChange={(event) => {
            session.tile.value = Number(event.currentTarget.value);
          }}
        >
          {SIZES.map(({ tile, name }) => (
            <option key={tile} value={tile}>
              {name}
            </option>
          ))}
        </select>
      </label>
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
