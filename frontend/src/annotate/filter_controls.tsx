/** Which cells the gallery shows. */
import { useEffect, useRef } from "preact/hooks";
import { classNames } from "../shared/format.ts";
import { ClassSelect } from "./class_select.tsx";
import { FILTER_NAMES, type Filter } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";
import type { Project } from "./types.ts";

export function FilterControls() {
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
  const menu = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const closeFromOutside = ({ target }: Event) => {
      if (menu.current && !menu.current.contains(target as Node)) menu.current.open = false;
    };
    document.addEventListener("pointerdown", closeFromOutside);
    document.addEventListener("focusin", closeFromOutside);
    return () => {
      document.removeEventListener("pointerdown", closeFromOutside);
      document.removeEventListener("focusin", closeFromOutside);
    };
  }, []);
  const closeByKey = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !menu.current) return;
    menu.current.open = false;
    menu.current.querySelector("summary")?.focus();
  };
  return (
    <details ref={menu} class="menu" onKeyDown={closeByKey}>
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
          <ClassSelect
            id="filter-class"
            classes={classes}
            value={query.filterClass}
            none="all"
            onChange={(filterClass) => session.setQuery({ filterClass })}
          />
        </label>
      </div>
    </details>
  );
}
