/** Uploads cells into the project, and shows how far it is. */
import { type Signal, useSignal } from "@preact/signals";
import { adviceInPage } from "../shared/advice.ts";
import { formatCount, plainMessage, plural } from "../shared/format.ts";
import { maskOf } from "../shared/stack_files.ts";
import { addCells } from "./project_api.ts";
import { DEFAULT_OPTIONS, type ReadingOptions, readingParams } from "./reading_options.tsx";
import { useSession } from "./session_context.ts";

export interface AddCells {
  readonly add: (files: File[]) => Promise<void>;
  readonly state: Signal<"idle" | "busy" | "failed">;
  readonly message: Signal<string>;
  readonly options: Signal<ReadingOptions>;
}

export function useAddCells(): AddCells {
  const session = useSession();
  const state = useSignal<"idle" | "busy" | "failed">("idle");
  const message = useSignal("");
  const options = useSignal(DEFAULT_OPTIONS);
  const add = async (files: File[]) => {
    if (files.length === 0) return;
    if (state.value === "busy") {
      session.notify("Other files are being added: drop these when that is done.");
      return;
    }
    state.value = "busy";
    session.notify("");
    message.value = `Reading ${files.length === 1 ? (files[0] as File).name : plural(files.length, "file")} ...`;
    try {
      const added = await addCells(
        files,
        readingParams(options.value, maskOf(files) !== undefined),
        new AbortController().signal,
      );
      let { n_added: nAdded } = added;
      if (added.job) {
        const job = await session.waitForJob(added.job, (running) => {
          message.value = plainMessage(running.message) || message.value;
        });
        message.value = plainMessage(job.message);
        nAdded = undefined;
      }
      if (nAdded !== undefined) {
        const present = added.n_present ? ` ${formatCount(added.n_present)} were there already.` : "";
        message.value = `${plural(nAdded, "cell")} added.${present}`;
      }
      message.value = plainMessage([message.value, ...(added.errors ?? []), ...(added.notes ?? [])].join(" "));
      state.value = added.errors?.length ? "failed" : "idle";
      session.notify(message.value);
      await session.refresh();
    } catch (error) {
      state.value = "failed";
      message.value = adviceInPage((error as Error).message);
    }
  };
  return { add, state, message, options };
}

export function AddingCells({ adding }: { readonly adding: AddCells }) {
  if (adding.state.value === "idle") return null;
  return (
    <p class={adding.state.value === "failed" ? "error-message" : "adding"} role="status">
      {adding.message.value}
    </p>
  );
}
