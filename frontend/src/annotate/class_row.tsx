/** A class: a button that labels the selected cells, with its key, its labels and its recall. */
import { classNames, formatCount, percent } from "../shared/format.ts";
import { useSession } from "./session_context.ts";
import type { ClassRecall, LabelClass } from "./types.ts";

interface Props {
  readonly item: LabelClass;
  readonly index: number;
  readonly recall: ClassRecall | undefined;
  readonly onEdit: () => void;
}

export function ClassRow({ item, index, recall, onEdit }: Props) {
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
