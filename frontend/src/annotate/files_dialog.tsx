/** Labels out and in, and more cells. */
import { useSignal } from "@preact/signals";
import { Dialog } from "../shared/dialog.tsx";
import { takeFiles } from "../shared/dropped_files.ts";
import { formatCount, plainMessage, plural } from "../shared/format.ts";
import type { AddCells } from "./add_cells.tsx";
import { type ImportReport, importLabels, labelsUrl } from "./project_api.ts";
import { ReadingOptionFields } from "./reading_options.tsx";
import { useSession } from "./session_context.ts";
import { countLabels, type Project } from "./types.ts";

const EXPORTS = [
  { format: "csv", name: "CSV", text: "a table of the labeled cells" },
  { format: "geojson", name: "GeoJSON", text: "outlines for QuPath" },
  { format: "npz", name: "npz", text: "images and labels in the layout of MedMNIST" },
] as const;

interface Props {
  readonly onClose: () => void;
  readonly adding: AddCells;
}

export function FilesDialog({ onClose, adding }: Props) {
  const session = useSession();
  const project = session.project.value as Project;
  const nLabels = countLabels(project);
  const result = useSignal("");
  const load = async (file: File | undefined) => {
    if (!file) return;
    result.value = "Importing ...";
    try {
      const report = await importLabels(file, session.annotatorName, new AbortController().signal);
      result.value = reportText(report);
      await session.refresh();
    } catch (error) {
      result.value = (error as Error).message;
    }
  };
  return (
    <Dialog title="Files" onClose={onClose}>
      <h3>Export the labels</h3>
      {nLabels === 0 && <p class="muted">No cell has a label yet.</p>}
      <ul class="jobs">
        {EXPORTS.filter(({ format }) => format !== "geojson" || project.has_stack).map(({ format, name, text }) => (
          <li key={format} class="row">
            {nLabels > 0 ? (
              <a class="button" href={labelsUrl(format)} download={`labels.${format}`}>
                {name}
              </a>
            ) : (
              <button type="button" disabled>
                {name}
              </button>
            )}
            <span class="muted">{text}</span>
          </li>
        ))}
      </ul>
      <h3>Import labels</h3>
      <label class="file-row">
        From CSV, GeoJSON or npz
        <input
          type="file"
          id="import-labels"
          accept=".csv,.geojson,.json,.npz"
          onChange={(event) => load(takeFiles(event.currentTarget)[0])}
        />
      </label>
      <p role="status">{result.value}</p>
      <h3>Add cells</h3>
      <label class="file-row">
        A stack and its mask, an npz file, or images of single cells
        <input
          type="file"
          multiple
          onChange={(event) => {
            void adding.add(takeFiles(event.currentTarget));
            onClose();
          }}
        />
      </label>
      <ReadingOptionFields options={adding.options} />
    </Dialog>
  );
}

/** What an import did, in the words of the command line (`describe_report` in nephros/annotation/label_import.py). */
export function reportText(report: ImportReport): string {
  const parts = [`${plural(report.n_labels, "label")} set`];
  if (report.n_unchanged) parts.push(`${formatCount(report.n_unchanged)} as they were`);
  if (report.n_missing) parts.push(`${formatCount(report.n_missing)} of cells that the project doesn't have`);
  if (report.new_classes.length) parts.push(`new classes: ${report.new_classes.slice(0, 10).join(", ")}`);
  return plainMessage([`${parts.join("; ")}.`, ...report.notes.slice(0, 5)].join(" "));
}
