/** The classes: a button per class labels the selected cells; counts and recalls beside it. */
import { useSignal } from "@preact/signals";
import { ClassBar } from "../shared/class_bar.tsx";
import { ClassDialog } from "./class_dialog.tsx";
import { ClassRow } from "./class_row.tsx";
import { NewClass } from "./new_class.tsx";
import { useSession } from "./session_context.ts";
import type { Project } from "./types.ts";

export function ClassPanel() {
  const session = useSession();
  const { classes, model } = session.project.value as Project;
  const edited = useSignal<number | null>(null);
  const editedClass = classes.find(({ id }) => id === edited.value);
  const counts = classes.map(({ name, color, n_labels }) => ({ name, color, n: n_labels }));
  return (
    <aside class="class-panel" aria-label="Classes">
      <h2>Classes</h2>
      {classes.some(({ n_labels }) => n_labels > 0) && <ClassBar counts={counts} label="Labels per class" />}
      {classes.length === 0 && (
        <p class="muted">Add the classes that you want to tell apart. The keys 1 to 9 then label cells with them.</p>
      )}
      <ul class="class-list">
        {classes.map((item, index) => (
          <ClassRow
            key={item.id}
            item={item}
            index={index}
            recall={model.recalls.find((entry) => entry.class === item.id)}
            onEdit={() => {
              edited.value = item.id;
            }}
          />
        ))}
      </ul>
      <NewClass />
      {editedClass && (
        <ClassDialog
          item={editedClass}
          onClose={() => {
            edited.value = null;
          }}
        />
      )}
    </aside>
  );
}
