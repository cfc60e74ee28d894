/** The head of the page: what the model tells apart, by its card, and where to drop files. */
import { takeFiles } from "../shared/dropped_files.ts";
import { formatCount, percent } from "../shared/format.ts";
import { READABLE_SUFFIXES } from "../shared/stack_files.ts";
import { UploadOptions } from "./options.tsx";
import { useSession } from "./session_context.ts";
import type { Model } from "./types.ts";

const ACCEPTED = [...READABLE_SUFFIXES, "image/png", "image/tiff", "image/jpeg"].join(",");
const MAX_NAMES = 12;

export function Hero({ projectUrl }: { readonly projectUrl: string | null }) {
  const session = useSession();
  const model = session.model.value;
  return (
    <header class="hero">
      <div class="container">
        <div>
          <p class="eyebrow" id="model">
            {session.problem.value || (model ? modelLine(model, session.server.value?.version ?? "") : "nephros")}
          </p>
          {projectUrl && (
            <p class="eyebrow">
              <a href={projectUrl}>Label the cells of the project</a>
            </p>
          )}
          <h1>{model ? `Which of ${model.class_names.length} kinds is this cell?` : "Classify cells"}</h1>
          {model && <p class="subtitle">{namesLine(model.class_names)}</p>}
          <p class="subtitle">
            Files are classified on the machine that serves this page and discarded afterwards. For research only, not
            for diagnosis.
          </p>
        </div>
        <div>
          <div id="drop-zone" class="drop" data-ready={model ? "yes" : undefined}>
            <input
              type="file"
              id="files"
              class="visually-hidden"
              multiple
              accept={ACCEPTED}
              disabled={!model}
              onChange={(event) => void session.upload(takeFiles(event.currentTarget))}
            />
            <label for="files" class="button">
              Choose files
            </label>
            <p>
              or drop them here: images of one cell each{model && ` (${sizeLine(model)})`}, an npz file of many, or a
              3-D stack, best with its mask (K4.tif and K4_mask.tif). Without a mask, nuclei are segmented roughly.
            </p>
            {session.dropNote.value && <p role="status">{session.dropNote.value}</p>}
          </div>
          <ModelChoice />
          <UploadOptions />
        </div>
      </div>
    </header>
  );
}

function ModelChoice() {
  const session = useSession();
  const models = session.models.value;
  if (models.length < 2) return null;
  return (
    <div class="model-choice">
      <label for="model-name">Model</label>
      <select
        id="model-name"
        value={session.modelName.value}
        onChange={(event) => session.setModel(event.currentTarget.value)}
      >
        {models.map(({ name, model }) => (
          <option key={name} value={name}>
            {name}
            {model.test_accuracy !== null && ` (test accuracy ${percent(model.test_accuracy)})`}
          </option>
        ))}
      </select>
    </div>
  );
}

function modelLine({ model }: Model, version: string): string {
  const subset = model.training_subset && `, ${model.training_subset}`;
  return `nephros ${version} · recipe ${model.recipe}, trained on ${model.training_data}${subset}`;
}

function namesLine(names: readonly string[]): string {
  const more = names.length > MAX_NAMES ? ` and ${formatCount(names.length - MAX_NAMES)} more` : "";
  return `${names.slice(0, MAX_NAMES).join(" · ")}${more}`;
}

function sizeLine({ model: { input } }: Model): string {
  return `the model sees ${input.width} × ${input.height} pixels in ${input.channels === 1 ? "grayscale" : "color"}`;
}
