/** A menu of filters that can be combined, and below them the choice of a class. */
import { ClassSelect } from "./class_select.tsx";
import { Menu } from "./menu.tsx";

interface Query<F extends string> {
  readonly filters: readonly F[];
  readonly filterClass: number | null;
}

interface Props<F extends string> {
  readonly names: Readonly<Record<F, string>>;
  readonly classes: readonly { readonly id: number; readonly name: string }[];
  readonly query: Query<F>;
  readonly onChange: (change: Partial<Query<F>>) => void;
}

export function FilterMenu<F extends string>({ names, classes, query, onChange }: Props<F>) {
  const { filters, filterClass } = query;
  const n = filters.length + (filterClass === null ? 0 : 1);
  const toggle = (filter: F) =>
    onChange({
      filters: filters.includes(filter) ? filters.filter((other) => other !== filter) : [...filters, filter],
    });
  return (
    <Menu label={n > 0 ? `Filter (${n})` : "Filter"} isSet={n > 0}>
      {(Object.keys(names) as F[]).map((filter) => (
        <label key={filter} class="checkbox">
          <input type="checkbox" checked={filters.includes(filter)} onChange={() => toggle(filter)} /> {names[filter]}
        </label>
      ))}
      <label>
        Class
        <ClassSelect
          id="filter-class"
          classes={classes}
          value={filterClass}
          none="all"
          onChange={(id) => onChange({ filterClass: id })}
        />
      </label>
    </Menu>
  );
}
