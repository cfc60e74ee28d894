/** What came of the uploads: counts, the gallery with its card, errors, and the table to save. */
import { ClassBar } from "../shared/class_bar.tsx";
import { formatCount, percent, plural } from "../shared/format.ts";
import { CellCard } from "./cell_card.tsx";
import { toCsv } from "./csv_table.ts";
import { ErrorList } from "./error_list.tsx";
import { Gallery } from "./gallery.tsx";
import { colorOf, type Session } from "./session.ts";
import { useSession } from "./session_context.ts";
import { Toolbar } from "./toolbar.tsx";
import type { Model, ServerInfo } from "./types.ts";

export function Results() {
  const session = useSession();
  session.version.value;
  const { store } = session;
  const model = session.model.value;
  if (!model || store.results.length === 0) return null;
  return (
    <section id="results" aria-labelledby="results-title">
      <div class="row">
        <h2 id="results-title">Results</h2>
        <span class="spacer" />
        <button type="button" id="download-csv" onClick={() => saveCsv(session, model)}>
          Download table (CSV)
        </button>
        <button
          type="button"
          id="clear"
          onClick={() => {
            session.clear();
            document.getElementById("files")?.focus();
          }}
        >
          Clear
        </button>
      </div>
      <p id="summary" class="muted" role="status">
        {summaryText(session)}
      </p>
      {store.nCells > 1 && <ClassCounts model={model} />}
      {session.notes.value.length > 0 && (
        <details class="notes">
          <summary>How the nuclei were segmented</summary>
          <ul>
            {session.notes.value.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
        </details>
      )}
      <ErrorList />
      {store.nCells > 0 && (
        <div class="gallery-and-card">
          <div class="gallery-panel">
            <Toolbar />
            <Gallery />
          </div>
          <CellCard />
        </div>
      )}
      <p id="reference-info" class="muted">
        {store.nCells > 0 &&
          "A frame has the color of the predicted class, the bar below shows its probability, and ◆ marks a cell out of distribution. "}
        {referenceText(session.server.value?.reference_cells ?? null)}
        {!model.model.detects_ood && " This model can't detect out-of-distribution images."}
      </p>
    </section>
  );
}

function ClassCounts({ model }: { readonly model: Model }) {
  const session = useSession();
  const { filterClass } = session.query.value;
  session.version.value; // the counts are in no signal
  const total = session.store.nCells;
  const counts = session.store
    .countClasses(model.class_names.length)
    .map((n, label) => ({ n, label, name: model.class_names[label] as string, color: colorOf(label) }))
    .filter(({ n }) => n > 0)
    .sort((a, b) => b.n - a.n);
  return (
    <>
      <ClassBar counts={counts} label="Cells per class" />
      <ul id="class-counts" class="class-counts" aria-label="Cells per class">
        {counts.map(({ name, n, label, color }) => (
          <li key={label}>
            <button
              type="button"
              class="quiet"
              aria-pressed={filterClass === label}
              onClick={() => session.setQuery({ filterClass: filterClass === label ? null : label })}
            >
              <span class="swatch" style={{ background: color }} /> <b>{formatCount(n)}</b> {name}{" "}
              <span class="muted">{percent(n / total, 0)}</span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

function summaryText({ store }: Session): string {
  const parts = [`${plural(store.nCells, "cell")} classified`];
  if (store.nOod) parts.push(`${formatCount(store.nOod)} out of distribution`);
  if (store.nErrors) parts.push(`${formatCount(store.nErrors)} failed`);
  return `${parts.join(", ")}.`;
}

function saveCsv({ store }: Session, model: Model): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([toCsv(store.results, model.class_names.length)], { type: "text/csv" }));
  link.download = "nephros.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function referenceText(reference: ServerInfo["reference_cells"]): string {
  return reference
    ? `Similar cells come from ${formatCount(reference.n_cells)} ${reference.trained_on ? "training" : "reference"} cells of ${reference.title}.`
    : "To see similar cells, start the server with reference data, for example: nephros serve --reference-data tissuemnist.";
}
