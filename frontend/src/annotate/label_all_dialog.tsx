/** Labels everything that the gallery shows with one class. */
import { Dialog } from "../shared/dialog.tsx";
import { plural } from "../shared/format.ts";
import { useSession } from "./session_context.ts";
import type { Project } from "./types.ts";

export function LabelAllDialog({ onClose }: { readonly onClose: () => void }) {
  const session = useSession();
  const { classes } = session.project.value as Project;
  const label = (id: number | null) => {
    session.labeling.labelAllShown(id);
    onClose();
  };
  return (
    <Dialog title="Label all shown" onClose={onClose}>
      <p>
        All {plural(session.order.value.length, "cell")} that pass the filters get this label, including those out of
        view. Undo takes it back.
      </p>
      <ul class="class-list">
        {classes.map(({ id, name, color }) => (
          <li key={id} class="class-row">
            <button type="button" class="class-button" onClick={() => label(id)}>
              <span class="swatch" style={{ background: color }} />
              <span class="class-name">{name}</span>
            </button>
          </li>
        ))}
        <li class="class-row">
          <button type="button" class="class-button" onClick={() => label(null)}>
            <span class="swatch" />
            <span class="class-name">Remove the labels</span>
          </button>
        </li>
      </ul>
      {classes.length === 0 && <p class="muted">Add a class first.</p>}
    </Dialog>
  );
}
