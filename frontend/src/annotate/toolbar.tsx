/** What the gallery shows and in which order, and what can be done with all of it. */
import { classNames, formatCount, plural } from "../shared/format.ts";
import { FILTER_NAMES, type Filter, SORT_NAMES, type Sort } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";
import type { Project } from "./types.ts";

const SIZES = [
  { tile: 48, name: "Small" },
  { tile: 72, name: "Medium" },
  { tile: 112, name: "Large" },
] as const;

export function Toolbar({ onLabelAll }: { readonly onLabelAll: () => void }) {
  const session = useSession();
  const n = session.order.value.length;
  const nSelected = session.selectionSize.value;
  session.gridVersion.value; // undo and redo become possible with a label
  return (
    <div class="toolbar" role="toolbar" aria-label="Gallery">
      <SortControls />
      <FilterControls />
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
        {nSelected > 0 ? `${formatCount(nSelected)} selected of ${formatCount(n)}` : plural(n, "cell")}
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

function SortControls() {
  const session = useSession();
  const { classes } = session.project.value as Project;
  const query = session.query.value;
  const change = (sort: Sort) => {
    const similarTo = sort === "similarity" ? session.activeCell : query.similarTo;
    const sortClass = query.sortClass ?? classes[0]?.id ?? null;
    void session.setQuery({ sort, similarTo, sortClass, descending: false });
  };
  return (
    <>
      <label>
        <span class="visually-hidden">Sort by</span>
        <select id="sort" value={query.sort} onChange={(event) => change(event.currentTarget.value as Sort)}>
          {Object.entries(SORT_NAMES).map(([value, name]) => (
            <option key={value} value={value} disabled={value === "probability" && classes.length === 0}>
              {value === "similarity" && query.sort === value ? `Similarity to cell ${query.similarTo}` : name}
            </option>
          ))}
        </select>
      </label>
      {query.sort === "probability" && (
        <label>
          <span class="visually-hidden">Probability of</span>
          <select
            value={query.sortClass ?? ""}
            onChange={(event) => session.setQuery({ sortClass: Number(event.currentTarget.value) })}
          >
            {classes.map(({ id, name }) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
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
    </>
  );
}

function FilterControls() {
  const session = useSession();
  const { classes } = session.project.value as Project;
  const query = session.query.value;
  const toggle = (filter: Filter) => {
    const filters = query.filters.includes(filter)
      ? query.filters.filter((other) => other !== filter)
      : [...query.filters, filter];
    void session.setQuery({ filters });
  };
  const n = query.filters.length + (query.filterClass === null ? 0 : 1);
  return (
    <details class="menu">
      <summary class={classNames("button", n > 0 && "is-set")}>Filter{n > 0 ? ` (${n})` : ""}</summary>
      <div class="menu-body">
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
              void session.setQuery({ filterClass: value === "" ? null : Number(value) });
            }}
          >
            <option value="">all</option>
            {classes.map(({ id, name }) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </div>
    </details>
  );
}
