/** Fine-tune a network on the labels, follow it, and take its run: report and exports. */
import { useSignal, useSignalEffect } from "@preact/signals";
import { Dialog } from "../shared/dialog.tsx";
import { plural } from "../shared/format.ts";
import { JobRow } from "./job_row.tsx";
import { getRuns, startFinetune } from "./project_api.ts";
import { RunRow } from "./run_row.tsx";
import { useSession } from "./session_context.ts";
import { countLabels, type Project, type Run } from "./types.ts";

export function TrainDialog({ onClose }: { readonly onClose: () => void }) {
  const session = useSession();
  const project = session.project.value as Project;
  const { classes } = project;
  const name = useSignal("");
  const problem = useSignal("");
  const runs = useSignal<readonly Run[]>([]);
  const nLabeledClasses = classes.filter(({ n_labels }) => n_labels > 0).length;
  useSignalEffect(() => {
    session.jobs.value; // a job that ends adds a run
    getRuns().then(
      (loaded) => {
        runs.value = loaded;
      },
      (error) => {
        problem.value = (error as Error).message;
      },
    );
  });
  const start = async (event: Event) => {
    event.preventDefault();
    try {
      session.addJob(await startFinetune(name.value.trim()));
      problem.value = "";
    } catch (error) {
      problem.value = (error as Error).message;
    }
  };
  return (
    <Dialog title="Fine-tune" onClose={onClose}>
      <p>
        The gallery's predictions come from a small model that is fitted again after every label. Fine-tuning trains the
        whole network on the {plural(countLabels(project), "label")}, which takes minutes to hours, in the background.
      </p>
      <form class="row" onSubmit={start}>
        <label>
          <span class="visually-hidden">Name of the run</span>
          <input
            type="text"
            maxLength={60}
            placeholder="Name (optional)"
            value={name.value}
            onInput={(event) => {
              name.value = event.currentTarget.value;
            }}
          />
        </label>
        <button type="submit" class="primary" disabled={nLabeledClasses < 2}>
          Start
        </button>
        {nLabeledClasses < 2 && <span class="muted">Two classes must have labels.</span>}
      </form>
      {problem.value && (
        <p class="error-message" role="alert">
          {problem.value}
        </p>
      )}
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
      {runs.value.length === 0 && <p class="muted">None yet.</p>}
      <ul class="jobs">
        {runs.value.map((run) => (
          <RunRow key={run.name} run={run} />
        ))}
      </ul>
    </Dialog>
  );
}
