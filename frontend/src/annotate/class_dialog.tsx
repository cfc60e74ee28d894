/** Rename a class, color it, or merge it into another. */
import { useSignal } from "@preact/signals";
import { ClassSelect } from "../shared/class_select.tsx";
import { Dialog } from "../shared/dialog.tsx";
import { plural } from "../shared/format.ts";
import { CLASS_COLORS } from "../shared/palette.ts";
import { changeClass, mergeClass } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { LabelClass, Project } from "./types.ts";

export function ClassDialog({ item, onClose }: { readonly item: LabelClass; readonly onClose: () => void }) {
  const session = useSession();
  const { classes } = session.project.value as Project;
  const name = useSignal(item.name);
  const color = useSignal(item.color.toLowerCase());
  const into = useSignal<number | null>(null);
  const problem = useSignal("");
  const others = classes.filter(({ id }) => id !== item.id);
  const colors = CLASS_COLORS.includes(color.value) ? CLASS_COLORS : [color.value, ...CLASS_COLORS];

  const run = async (action: () => Promise<unknown>) => {
    try {
      await action();
      await session.refresh();
      onClose();
    } catch (error) {
      problem.value = (error as Error).message;
    }
  };
  const save = (event: Event) => {
    event.preventDefault();
    void run(() => changeClass(item.id, { name: name.value.trim(), color: color.value }));
  };
  const merge = (event: Event) => {
    event.preventDefault();
    const target = into.value;
    if (target !== null) void run(() => mergeClass(item.id, target));
  };
  return (
    <Dialog title={`Class ${item.name}`} onClose={onClose}>
      <form class="stack" onSubmit={save}>
        <label>
          Name
          <input
            type="text"
            maxLength={80}
            required
            value={name.value}
            onInput={(event) => {
              name.value = event.currentTarget.value;
            }}
          />
        </label>
        <fieldset class="colors">
          <legend>Color</legend>
          {colors.map((option) => (
            <label key={option} style={{ background: option }}>
              <input
                type="radio"
                name="color"
                aria-label={`Color ${option}`}
                checked={option === color.value}
                onChange={() => {
                  color.value = option;
                }}
              />
            </label>
          ))}
        </fieldset>
        <button type="submit" class="primary">
          Save
        </button>
      </form>
      {others.length > 0 && (
        <form class="stack" onSubmit={merge}>
          <label>
            Merge into
            <ClassSelect
              classes={others}
              value={into.value}
              none="choose a class"
              onChange={(id) => {
                into.value = id;
              }}
            />
          </label>
          <p class="muted">
            Its {plural(item.n_labels, "label")} then count for that class. The history of every cell keeps what was
            labeled.
          </p>
          <button type="submit" disabled={into.value === null}>
            Merge
          </button>
        </form>
      )}
      {problem.value && (
        <p class="error-message" role="alert">
          {problem.value}
        </p>
      )}
    </Dialog>
  );
}
