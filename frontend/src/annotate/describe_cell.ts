import { formatCount } from "../shared/format.ts";
import type { Session } from "./session.ts";

/** A cell in words, for screen readers. */
export function describeCell(session: Session, position: number): string {
  const cell = session.order.value[position];
  if (cell === undefined) return "No cell";
  const info = session.cells.get(cell);
  const label = session.className(session.cells.label(cell));
  const parts = [`Cell ${formatCount(cell)}`, label ? `labeled ${label}` : "no label"];
  if (session.queue.unsavedLabel(cell) !== undefined) parts.push("not saved yet");
  const predicted = session.className(info?.class ?? null);
  if (predicted) parts.push(`predicted ${predicted}, ${Math.round(100 * (info?.probability ?? 0))}%`);
  if ((info?.set.length ?? 0) > 1) parts.push(`unsure between ${info?.set.length} classes`);
  if (info?.is_ood) parts.push("out of distribution");
  if (info?.is_suspicious) parts.push("label looks wrong");
  return parts.join(", ");
}
