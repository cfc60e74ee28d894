/** Who labeled a cell as what, the latest first. */
import { useSession } from "./session_context.ts";
import type { CellCard } from "./types.ts";

export function LabelHistory({ card }: { readonly card: CellCard }) {
  const session = useSession();
  if (card.history.length === 0) return null;
  return (
    <section class="history">
      <h3>Labels</h3>
      <ol reversed>
        {[...card.history]
          .sort((a, b) => timeOf(b.time) - timeOf(a.time))
          .map(({ annotator, class: id, time, is_undo }) => (
            <li key={`${annotator} ${time} ${id}`}>
              {is_undo ? "undone" : (session.className(id) ?? (id === null ? "removed" : `class ${id}`))}{" "}
              <span class="muted">
                {annotator}, {new Date(timeOf(time)).toLocaleString()}
              </span>
            </li>
          ))}
      </ol>
    </section>
  );
}

/** Milliseconds, of seconds since 1970 or an ISO date. */
function timeOf(time: string | number): number {
  return typeof time === "number" ? 1000 * time : Date.parse(time);
}
