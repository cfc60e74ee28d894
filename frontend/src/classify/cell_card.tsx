/** The card of a cell: its image, the prediction, and the reference cells most similar to it. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { plainMessage, probabilityText } from "../shared/format.ts";
import { ProbabilityTable, setCaption } from "../shared/probability_table.tsx";
import { CellImage } from "./cell_image.tsx";
import { type CellResult, displayName, isCell, topProbability } from "./result_store.ts";
import { useSession } from "./session_context.ts";
import type { SimilarCell } from "./types.ts";

export function CellCard() {
  const session = useSession();
  session.version.value;
  const panel = useRef<HTMLElement>(null);
  const cell = session.card.value;
  useEffect(() => {
    if (panel.current) panel.current.scrollTop = 0;
  }, [cell]);
  const result = cell === null ? undefined : session.store.results[cell];
  if (cell === null || !result || !isCell(result)) return null;
  const close = () => {
    session.card.value = null;
    document.querySelector<HTMLElement>(".grid")?.focus();
  };
  return (
    <aside
      ref={panel}
      class="cell-card"
      aria-label={displayName(result)}
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <div class="dialog-head">
        <h2>
          {result.class_name} <span class="muted">{probabilityText(topProbability(result))}</span>
        </h2>
        <button type="button" class="quiet" aria-label="Close the card" onClick={close}>
          ✕
        </button>
      </div>
      <CardBody key={cell} cell={cell} result={result} />
    </aside>
  );
}

function CardBody({ cell, result }: { readonly cell: number; readonly result: CellResult }) {
  const session = useSession();
  const names = session.model.value?.class_names ?? [];
  const trueClass = session.trueClasses.get(result.file);
  const rows = names.map((name, label) => ({
    name,
    probability: result.probabilities[label] ?? 0,
    inSet: result.prediction_set.includes(label),
  }));
  return (
    <>
      <p class="filename">
        {displayName(result)}
        {trueClass && ` · true class: ${trueClass}`}
      </p>
      <CellImage cell={cell} result={result} />
      {result.is_ood && (
        <p class="ood-warning">
          <b>Out of distribution: </b>
          {(result.ood_reasons ?? []).join("; ")}. The prediction may be meaningless.
        </p>
      )}
      <ProbabilityTable rows={rows} caption={setCaption(result.coverage, result.prediction_set.length)} />
      {session.hasSimilarCells && session.store.pixels(cell) && (
        <SimilarCells cell={cell} className={result.class_name} />
      )}
    </>
  );
}

function SimilarCells({ cell, className }: { readonly cell: number; readonly className: string }) {
  const session = useSession();
  const cells = useSignal<readonly SimilarCell[] | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    const controller = new AbortController();
    session.explain(cell, "similar", controller.signal).then(
      ({ similar_cells }) => {
        cells.value = similar_cells ?? [];
      },
      (error: Error) => {
        if (!controller.signal.aborted) problem.value = plainMessage(error.message);
      },
    );
    return () => controller.abort();
  }, [cell]);
  const isTraining = session.model.value?.default && session.server.value?.reference_cells?.trained_on;
  const kind = isTraining ? "training cells" : "reference cells";
  return (
    <section class="similar-cells" aria-busy={cells.value === null && !problem.value}>
      <h3>Most similar {kind}, by the model's features (1 = identical)</h3>
      {problem.value && <p class="note">{problem.value}</p>}
      {cells.value === null && !problem.value && <p class="note">Searching; a model's first search takes a moment.</p>}
      {cells.value?.length === 0 && (
        <p class="note">This model's features can't be compared with the reference cells.</p>
      )}
      <ul>
        {(cells.value ?? []).map((similar, i) => (
          <li key={i} class={similar.class_name === className ? "same-class" : ""}>
            <img src={similar.preview} alt="" />
            <span>{similar.class_name}</span> {similar.similarity.toFixed(2)}
          </li>
        ))}
      </ul>
    </section>
  );
}
