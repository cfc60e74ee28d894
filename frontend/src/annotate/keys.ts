/** What a key means while the gallery or the card has the focus. */
import { type Move, moveOf } from "../grid/moves.ts";

export type Command =
  | { readonly kind: "label"; readonly index: number }
  | {
      readonly kind: "move";
      readonly to: Move;
      readonly extend: boolean;
    }
  | {
      readonly kind:
        | "unlabel"
        | "open"
        | "close"
        | "undo"
        | "redo"
        | "next-unsure"
        | "re-sort"
        | "toggle"
        | "select-all"
        | "help"
        | "label-all";
    };

type Key = Pick<KeyboardEvent, "key" | "shiftKey" | "ctrlKey" | "metaKey" | "altKey">;

const PLAIN: Readonly<Record<string, Command["kind"]>> = {
  "0": "unlabel",
  Backspace: "unlabel",
  Delete: "unlabel",
  Enter: "open",
  Escape: "close",
  " ": "toggle",
  u: "next-unsure",
  r: "re-sort",
  a: "label-all",
  z: "undo",
  y: "redo",
  "?": "help",
};

export const KEY_HELP: readonly (readonly [keys: string, meaning: string])[] = [
  ["1 to 9", "label the cell, or all selected cells, with that class"],
  ["0, Backspace", "remove the label"],
  ["Arrows, Page up, Page down, Home, End", "move"],
  ["Shift + arrows, Shift + click", "select a range"],
  ["Space, Ctrl + click", "add the cell to the selection, or take it out"],
  ["Ctrl + A", "select all that the gallery shows"],
  ["Enter, click", "open the card of the cell"],
  ["Escape", "end the selection, then close the card"],
  ["U", "go to the next unsure cell without a label"],
  ["R", "sort again by the newest predictions"],
  ["A", "label all that the gallery shows"],
  ["Z, Ctrl + Z", "undo"],
  ["Y, Ctrl + Shift + Z", "redo"],
  ["?", "show these keys"],
];

export function commandOf(event: Key): Command | null {
  if (event.altKey) return null;
  if (event.ctrlKey || event.metaKey) return modifiedCommand(event);
  const to = moveOf(event.key);
  if (to) return { kind: "move", to, extend: event.shiftKey };
  if (/^[1-9]$/.test(event.key)) return { kind: "label", index: Number(event.key) - 1 };
  const kind = PLAIN[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  return kind ? ({ kind } as Command) : null;
}

function modifiedCommand({ key, shiftKey }: Key): Command | null {
  const letter = key.toLowerCase();
  if (letter === "z") return { kind: shiftKey ? "redo" : "undo" };
  if (letter === "y") return { kind: "redo" };
  if (letter === "a") return { kind: "select-all" };
  return null;
}

const OF_WHOLE_PAGE: ReadonlySet<Command["kind"]> = new Set(["label", "undo", "redo", "next-unsure", "re-sort"]);

const FIELDS = "select, textarea, dialog, input:not([type=checkbox], [type=radio], [type=range])";

/** What a key means where a button, a box or a slider has the focus, which use other keys; nothing in fields and dialogs. */
export function pageCommandOf(event: KeyboardEvent): Command | null {
  if (event.defaultPrevented) return null;
  if (event.target instanceof Element && event.target.closest(FIELDS)) return null;
  const command = commandOf(event);
  return command && OF_WHOLE_PAGE.has(command.kind) ? command : null;
}
