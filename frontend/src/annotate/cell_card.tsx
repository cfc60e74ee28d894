/** The card of a cell: image, label, prediction, similar cells, tissue, and who labeled it when. */
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ClassSelect } from "../shared/class_select.tsx";
import { formatCount } from "../shared/format.ts";
import { ProbabilityTable, setCaption } from "../shared/probability_table.tsx";
import { CardImage } from "./card_image.tsx";
import { LabelHistory } from "./label_history.tsx";
import { getCard } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import { SimilarCells } from "./similar_cells.tsx";
import { TissueView } from "./tissue_view.tsx";
import type { CellCard, Project } from "./types.ts";

/** The coverage for which the server computes prediction sets. */
const COVERAGE = 0.9;
const PAUSE_MS = 120;

export function CellCardPanel() {
  const session = useSession();
  const card = useSignal<CellCard | null>(null);
  const problem = useSignal("");
  const panel = useRef<HTMLElement>(null);
  const cell = session.card.value;

  useSignalEffect(() => {
    const wanted = session.card.value;
    session.cardVersion.value;
    if (wanted === null) {
      card.value = null;
      return;
    }
    const controller = new AbortController();
    const timer = setTimeout(
      () => {
        getCard(wanted, controller.signal).then(
          (loaded) => {
            card.value = loaded;
            problem.value = "";
          },
          (error) => {
            if (controller.signal.aborted) return;
            problem.value = (error as Error).message;
            if (card.peek()?.cell !== wanted) card.value = null; // keys label the cell of the heading
          },
        );
      },
      card.peek() === null ? 0 : PAUSE_MS,
    );
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  });
  useEffect(() => {
    if (panel.current) panel.current.scrollTop = 0;
  }, [cell]);

  if (cell === null) return null;
  const close = () => {
    session.card.value = null;
    document.querySelector<HTMLElement>(".grid")?.focus();
  };
  return (
    <aside
      ref={panel}
      class="cell-card"
      aria-label={`Cell ${cell}`}
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <div class="dialog-head">
        <h2>Cell {formatCount(cell)}</h2>
        <button type="button" class="quiet" aria-label="Close the card" onClick={close}>
          ✕
        </button>
      </div>
      {problem.value && (
        <p class="error-message" role="alert">
          {problem.value}
        </p>
      )}
      {card.value && <CardBody card={card.value} />}
    </aside>
  );
}

function CardBody({ card }: { readonly card: CellCard }) {
  const session = useSession();
  const project = session.project.value as Project;
  session.gridVersion.value; // the label may be set here
  const label = session.classOf(session.cells.label(card.cell));
  const predicted = session.classOf(card.class);
  const rows = card.probabilities.flatMap(({ class: id, probability }) => {
    const name = session.className(id);
    return name === undefined ? [] : [{ name, probability, inSet: card.set.includes(id) }];
  });
  return (
    <>
      <CardImage card={card} color={label?.color ?? null} />
      <label class="card-label">
        <span>Label</span>
        <ClassSelect
          classes={project.classes}
          value={label?.id ?? null}
          none="none"
          onChange={(id) => session.labeling.labelCells([card.cell], id)}
        />
      </label>
      {card.is_suspicious && label && predicted && (
        <p class="ood-warning">
          <b>This label looks wrong: </b>the model, trained on the other labels, predicts {predicted.name}.
        </p>
      )}
      {card.is_ood && (
        <p class="ood-warning">
          <b>Out of distribution</b>
          {card.ood_reasons?.length ? `: ${card.ood_reasons.join("; ")}` : ""}. The prediction may be meaningless.
        </p>
      )}
      {rows.length > 0 ? (
        <ProbabilityTable rows={rows} caption={setCaption(COVERAGE, card.set.length)} />
      ) : (
        <p class="muted">Predictions begin when two classes have labels.</p>
      )}
      <SimilarCells card={card} />
      {project.has_stack && card.location && <TissueView cell={card.cell} />}
      <LabelHistory card={card} />
    </>
  );
}
