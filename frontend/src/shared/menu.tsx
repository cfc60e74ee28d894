/** A button with a menu, which closes by Escape, a click elsewhere, or when the focus leaves it. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { classNames } from "./format.ts";

interface Props {
  readonly label: string;
  /** Whether something in the menu is chosen. */
  readonly isSet: boolean;
  readonly children: ComponentChildren;
}

export function Menu({ label, isSet, children }: Props) {
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
      <summary class={classNames("button", isSet && "is-set")}>{label}</summary>
      <div class="menu-body">{children}</div>
    </details>
  );
}
