/** Whether every label is on the server's disk. */
import { plural } from "../shared/format.ts";
import { useSession } from "./session_context.ts";

export function SaveState() {
  const session = useSession();
  const { n, isRetrying } = session.unsaved.value;
  const isOnline = session.isOnline.value;
  const isWaiting = n > 0 && (isRetrying || !isOnline);
  let text = "All labels saved";
  if (isWaiting) text = `${plural(n, "label")} not saved yet, trying again. ${session.queue.problem}`;
  else if (n > 0) text = `Saving ${plural(n, "label")}`;
  else if (!isOnline) text = "Server not reached";
  const state = isWaiting || !isOnline ? "waiting" : n > 0 ? "saving" : "saved";
  return (
    <p class="save-state" role="status" data-state={state}>
      {text}
    </p>
  );
}
