import { useSignal } from "@preact/signals";
import { percent, plural } from "../shared/format.ts";
import { EXPORT_FORMATS } from "./jobs.ts";
import { exportRun, runUrl } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { Run } from "./types.ts";

export function RunRow({ run }: { readonly run: Run }) {
  const session = useSession();
  const pending = useSignal<string | null>(null);
  const parts = [
    run.method ?? "",
    run.accuracy == null ? "" : `accuracy ${percent(run.accuracy)}`,
    run.n_labels == null ? "" : plural(run.n_labels, "label"),
  ].filter(Boolean);

  const download = async (format: string) => {
    pending.value = format;
    try {
      await session.waitForJob(await exportRun(run.name, format));
      const link = Object.assign(document.createElement("a"), {
        href: runUrl(run.name, `export/${format}`),
        download: "",
      });
      link.click();
    } catch (error) {
      session.notify((error as Error).message);
    } finally {
      pending.value = null;
    }
  };
  return (
    <li>
      <div class="row">
        <b>{run.name}</b>
        <span class="muted">{parts.join(", ")}</span>
        <span class="spacer" />
        <a class="button" href={runUrl(run.name, "report")} target="_blank" rel="noopener">
          Report
        </a>
        {EXPORT_FORMATS.map(([format, name]) => (
          <button
            key={format}
            type="button"
            disabled={pending.value !== null || (format === "geojson" && !session.project.value?.has_stack)}
            onClick={() => download(format)}
          >
            {pending.value === format ? "Exporting ..." : name}
          </button>
        ))}
      </div>
    </li>
  );
}
