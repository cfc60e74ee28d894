/** Fine-tune a network on the labels, follow it, and take its run: report and exports. */
import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { Dialog } from "../shared/dialog.tsx";
import { plural } from "../shared/format.ts";
import { JobRow } from "./job_row.tsx";
import { isActive } from "./jobs.ts";
import { getRuns } from "./project_api.ts";
import { RunRow } from "./run_row.tsx";
import { useSession } from "./session_context.ts";
import { TrainForm } from "./train_form.tsx";
import { countLabels, type Project, type Run } from "./types.ts";

export function TrainDialog({ onClose }: { readonly onClose: () => void }) {
  const session = useSession();
  const project = session.project.value as Project;
  const problem = useSignal("");
  const runs = useSignal<readonly Run[]>([]);
  const nEnded = useComputed(() => session.jobs.value.filter((job) => !isActive(job)).length);
  useSignalEffect(() => {
    nEnded.value; // a job that ends adds a run
    getRuns().then(
      (loaded) => {
        runs.value = loaded;
        problem.value = "";
      },
      (error) => {
        problem.value = (error as Error).message;
      },
    );
  });
  return (
    <Dialog title="Fine-tune" onClose={onClose}>
      <p>
        The gallery's predictions come from a small model that is fitted again after every label. Fine-tuning trains one
        on the {plural(countLabels(project), "label")} that classifies other images too, in the background.
      </p>
      <TrainForm />
      {session.jobs.value.length > 0 && (
        <>
          <h3>Jobs</h3>
          <ul class="jobs">
            {session.jobs.value.map((job) => (
              <JobRow key={job.id} job={job} />
            ))}
          </ul>
        </>
      )}
      <h3>Runs</h3>
      {problem.value && (
        <p class="error-message" role="alert">
          {problem.value}
        </p>
      )}
      {runs.value.length === 0 && <p class="muted">None yet.</p>}
      <ul class="jobs">
        {runs.value.map((run) => (
          <RunRow key={run.name} run={run} />
        ))}
      </ul>
    </Dialog>
  );
}
