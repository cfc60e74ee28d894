/** A menu of filters that can be combined, and below them the choice of a class, with its label. */
import type { ComponentChildren } from "preact";
import { Menu } from "./menu.tsx";

interface Props<F extends string> {
  readonly names: Readonly<Record<F, string>>;
  readonly filters: readonly F[];
  readonly hasClass: boolean;
  readonly onChange: (filters: F[]) => void;
  readonly children: ComponentChildren;
}

export function FilterMenu<F extends string>({ names, filters, hasClass, onChange, children }: Props<F>) {
  const n = filters.length + (hasClass ? 1 : 0);
  const toggle = (filter: F) =>
    onChange(filters.includes(filter) ? filters.filter((other) => other !== filter) : [...filters, filter]);
  return (
    <Menu label={n > 0 ? `Filter (${n})` : "Filter"} isSet={n > 0}>
      {(Object.keys(names) as F[]).map((filter) => (
        <label key={filter} class="checkbox">
          <input type="checkbox" checked={filters.includes(filter)} onChange={() => toggle(filter)} /> {names[filter]}
        </label>
      ))}
      {children}
    </Menu>
  );
}
