/** The classes: a button per class labels the selected cells; counts and recalls beside it. */
import { useSignal } from "@preact/signals";
import { ClassBar } from "../shared/class_bar.tsx";
import { classNames, formatCount, percent } from "../shared/format.ts";
import { ClassDialog } from "./class_dialog.tsx";
import { addClass } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { ClassRecall, LabelClass, Project } from "./types.ts";

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

interface RowProps {
  readonly item: LabelClass;
  readonly index: number;
  readonly recall: ClassRecall | undefined;
  readonly onEdit: () => void;
}

function ClassRow({ item, index, recall, onEdit }: RowProps) {
  const session = useSession();
  const key = index < 9 ? String(index + 1) : "";
  return (
    <li class="class-row">
      <button
        type="button"
        class="class-button"
        aria-keyshortcuts={key || undefined}
        onClick={() => session.labeling.labelSelected(item.id)}
      >
        <span class="swatch" style={{ background: item.color }} />
        <span class="class-name">{item.name}</span>
        {key && <kbd>{key}</kbd>}
        <span class={classNames("class-numbers", !recall && "muted")}>
          {formatCount(item.n_labels)}
          <span class="visually-hidden"> labels</span>
          {recall?.recall != null && ` · recall ${percent(recall.recall, 0)}`}
        </span>
      </button>
      <button type="button" class="quiet" aria-label={`Edit ${item.name}`} onClick={onEdit}>
        ⋯
      </button>
    </li>
  );
}

function NewClass() {
  const session = useSession();
  const name = useSignal("");
  const add = async (event: Event) => {
    event.preventDefault();
    const text = name.value.trim();
    if (!text) return;
    try {
      await addClass(text);
      name.value = "";
      await session.refresh();
    } catch (error) {
      session.notify((error as Error).message);
    }
  };
  return (
    <form class="new-class" onSubmit={add}>
      <label>
        <span class="visually-hidden">Name of a new class</span>
        <input
          type="text"
          id="new-class"
          maxLength={80}
          placeholder="New class"
          autocomplete="off"
          value={name.value}
          onInput={(event) => {
            name.value = event.currentTarget.value;
          }}
        />
      </label>
      <button type="submit">Add</button>
    </form>
  );
}
