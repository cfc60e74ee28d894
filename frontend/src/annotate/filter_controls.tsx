/** Which cells the gallery shows. */
import { Menu } from "../shared/menu.tsx";
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
  return (
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
        <ClassSelect
          id="filter-class"
          classes={classes}
          value={query.filterClass}
          none="all"
          onChange={(filterClass) => session.setQuery({ filterClass })}
        />
      </label>
    </Menu>
  );
}
