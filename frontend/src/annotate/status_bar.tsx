/** The head of the page: project, progress, how good the model is, whether everything is saved, and the menus. */
import { formatCount, percent } from "../shared/format.ts";
import type { OpenDialog } from "./page.tsx";
import { SaveState } from "./save_state.tsx";
import { useSession } from "./session_context.ts";
import { countLabels, type Project } from "./types.ts";

const ACCURACY_UNKNOWN: Readonly<Record<string, string>> = {
  "few labels": "needs more labels",
  features: "needs the features first",
  fitting: "fitting ...",
};

export function StatusBar({ onOpen }: { readonly onOpen: (dialog: OpenDialog) => void }) {
  const session = useSession();
  const project = session.project.value as Project;
  return (
    <header class="status-bar">
      <div class="status-title">
        <h1>{project.name}</h1>
        <p class="eyebrow">nephros · labels and training</p>
      </div>
      {project.n_cells > 0 && <Figures project={project} onOpen={onOpen} />}
      {project.model.error && (
        <p class="error-message" id="model-error" role="status">
          Work in the background has stopped, and is tried again: {project.model.error}
        </p>
      )}
      <div class="status-actions">
        <SaveState />
        <label class="annotator">
          <span class="visually-hidden">Your name</span>
          <input
            type="text"
            maxLength={80}
            placeholder="Your name"
            autocomplete="name"
            value={session.annotator.value}
            onInput={(event) => session.setAnnotator(event.currentTarget.value)}
          />
        </label>
        <button type="button" onClick={() => onOpen("train")}>
          Fine-tune
        </button>
        <button type="button" onClick={() => onOpen("files")}>
          Files
        </button>
        <button type="button" class="wide-only" onClick={() => onOpen("keys")}>
          Keys
        </button>
      </div>
    </header>
  );
}

interface FiguresProps {
  readonly project: Project;
  readonly onOpen: (dialog: OpenDialog) => void;
}

function Figures({ project, onOpen }: FiguresProps) {
  const session = useSession();
  const { model } = project;
  const gain = model.gain_of_last_40;
  return (
    <dl class="figures">
      <div>
        <dt>labeled</dt>
        <dd id="n-labels">
          {formatCount(countLabels(project))} <small>of {formatCount(project.n_cells)}</small>
        </dd>
      </div>
      {model.state === "features" && (
        <div>
          <dt>reading the cells</dt>
          <dd>
            <progress max={model.n_cells} value={model.features_done} aria-label="Cells whose features are computed" />{" "}
            <small>{percent(model.features_done / Math.max(1, model.n_cells), 0)}</small>
          </dd>
        </div>
      )}
      <div>
        <dt>cross-validated accuracy</dt>
        <dd id="accuracy">
          {model.accuracy === null ? (
            <small>{ACCURACY_UNKNOWN[model.state] ?? "not known yet"}</small>
          ) : (
            <>
              {percent(model.accuracy)}{" "}
              {model.low !== null && model.high !== null && (
                <small>
                  {percent(model.low, 0)} to {percent(model.high, 0)}
                </small>
              )}
            </>
          )}
        </dd>
      </div>
      {gain !== null && (
        <div>
          <dt>last 40 labels</dt>
          <dd>
            {gain >= 0 ? "+" : "−"}
            {Math.abs(100 * gain).toFixed(1)} <small>points</small>
          </dd>
        </div>
      )}
      {model.n_suspicious > 0 && (
        <div>
          <dt>labels look wrong</dt>
          <dd>
            <button
              type="button"
              class="link"
              onClick={() => session.setQuery({ sort: "suspicious", filters: [], filterClass: null })}
            >
              {formatCount(model.n_suspicious)} <small>show</small>
            </button>
          </dd>
        </div>
      )}
      {project.annotators.length > 1 && (
        <div>
          <dt>annotators</dt>
          <dd>
            <button type="button" class="link" onClick={() => onOpen("agreement")}>
              {project.annotators.length} <small>agreement</small>
            </button>
          </dd>
        </div>
      )}
    </dl>
  );
}
