/** The order of the gallery. */

import { ClassSelect } from "../shared/class_select.tsx";
import { ReverseButton } from "../shared/reverse_button.tsx";
import { SORT_NAMES, type Sort } from "./gallery_query.ts";
import { useSession } from "./session_context.ts";
import type { Project } from "./types.ts";

export function SortControls() {
  const session = useSession();
  const { classes } = session.project.value as Project;
  const query = session.query.value;
  const change = (sort: Sort) => {
    const similarTo = sort === "similarity" ? session.currentCell : query.similarTo;
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
          <ClassSelect
            classes={classes}
            value={query.sortClass}
            onChange={(sortClass) => session.setQuery({ sortClass })}
          />
        </label>
      )}
      <ReverseButton isOn={query.descending} onClick={() => session.setQuery({ descending: !query.descending })} />
    </>
  );
}
