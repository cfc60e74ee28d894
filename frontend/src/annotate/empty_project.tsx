/** A project without cells: where to drop them. */
import { takeFiles } from "../shared/dropped_files.ts";
import type { AddCells } from "./add_cells.tsx";
import { AddingCells } from "./add_cells.tsx";
import { ReadingOptionFields } from "./reading_options.tsx";

export function EmptyProject({ adding }: { readonly adding: AddCells }) {
  const isBusy = adding.state.value === "busy";
  return (
    <main id="gallery" class="empty-project" aria-label="Add cells">
      <div class="drop" id="drop-zone">
        <h2>Drop your nuclei here</h2>
        <p>
          A 3-D stack and its mask (without a mask, nuclei are segmented roughly), an npz file, or a folder of images
          with one nucleus each.
        </p>
        <input
          type="file"
          id="files"
          class="visually-hidden"
          multiple
          disabled={isBusy}
          onChange={(event) => adding.add(takeFiles(event.currentTarget))}
        />
        <label for="files" class="button primary">
          Choose files
        </label>
        <ReadingOptionFields options={adding.options} />
        {isBusy && <progress aria-label="Adding cells" />}
        <AddingCells adding={adding} />
      </div>
      <p class="muted">
        The cells and their labels are kept in the project's folder on the machine that serves this page.
      </p>
    </main>
  );
}
