/** The annotation page: classes on the left, the gallery in the middle, the card of a cell on the right. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { useDroppedFiles } from "../shared/drop_target.ts";
import { classNames } from "../shared/format.ts";
import { AddingCells, useAddCells } from "./add_cells.tsx";
import { AgreementDialog } from "./agreement_dialog.tsx";
import { CellCardPanel } from "./cell_card.tsx";
import { ClassPanel } from "./class_panel.tsx";
import { EmptyProject } from "./empty_project.tsx";
import { FilesDialog } from "./files_dialog.tsx";
import { Gallery, runCommand } from "./gallery.tsx";
import { pageCommandOf } from "./keys.ts";
import { KeysDialog } from "./keys_dialog.tsx";
import { LabelAllDialog } from "./label_all_dialog.tsx";
import { useSession } from "./session_context.ts";
import { StatusBar } from "./status_bar.tsx";
import { Toolbar } from "./toolbar.tsx";
import { TrainDialog } from "./train_dialog.tsx";

export type OpenDialog = "train" | "files" | "keys" | "label-all" | "agreement" | null;

export function AnnotatePage() {
  const session = useSession();
  const dialog = useSignal<OpenDialog>(null);
  const adding = useAddCells();
  const isOver = useDroppedFiles(async (files, note) => {
    await adding.add(files);
    if (note) session.notify(`${session.notice.value} ${note}`.trim());
  });
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const command = pageCommandOf(event);
      if (!command) return;
      event.preventDefault();
      runCommand(session, command, () => {});
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [session]);
  const project = session.project.value;
  if (!project) {
    return (
      <main class="loading">
        <h1>nephros</h1>
        <p role="status">{session.problem.value || "Opening the project ..."}</p>
      </main>
    );
  }
  const close = () => {
    dialog.value = null;
  };
  const open = (name: OpenDialog) => {
    dialog.value = name;
  };
  return (
    <div class={classNames("annotate", isOver && "drag-over", session.card.value !== null && "has-card")}>
      <a class="skip" href="#gallery">
        Skip to the gallery
      </a>
      <StatusBar onOpen={open} />
      {project.n_cells === 0 ? (
        <EmptyProject adding={adding} />
      ) : (
        <>
          <ClassPanel />
          <main id="gallery" aria-label="Gallery">
            <Toolbar onLabelAll={() => open("label-all")} />
            <AddingCells adding={adding} />
            <Gallery onOpen={open} />
          </main>
          <CellCardPanel />
        </>
      )}
      <p class="notice" role="status">
        {session.notice.value}
      </p>
      {dialog.value === "train" && <TrainDialog onClose={close} />}
      {dialog.value === "files" && <FilesDialog onClose={close} adding={adding} />}
      {dialog.value === "keys" && <KeysDialog onClose={close} />}
      {dialog.value === "label-all" && <LabelAllDialog onClose={close} />}
      {dialog.value === "agreement" && <AgreementDialog onClose={close} />}
    </div>
  );
}
