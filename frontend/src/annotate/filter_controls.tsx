/** Which cells the gallery shows. */
import { FilterMenu } from "../shared/filter_menu.tsx";
import { ClassSelect } from "./class_select.tsx";
import { FILTER_NAMES } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";
import type { Project } from "./types.ts";

export function FilterControls() {
  const session = useSession();
  const { classes } = session.project.value as Project;
  const query = session.query.value;
  return (
    <FilterMenu
      names={FILTER_NAMES}
      filters={query.filters}
      hasClass={query.filterClass !== null}
      onChange={(filters) => session.setQuery({ filters })}
    >
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
    </FilterMenu>
  );
}
