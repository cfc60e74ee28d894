import { percent, plainMessage } from "../shared/format.ts";
import { isActive, jobTitle } from "./jobs.ts";
import { cancelJob } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { Job } from "./types.ts";

export function JobRow({ job }: { readonly job: Job }) {
  const session = useSession();
  const isRunning = isActive(job);
  const cancel = () => cancelJob(job.id).catch((error: Error) => session.notify(error.message));
  return (
    <li data-state={job.state}>
      <div class="row">
        <b>{jobTitle(job)}</b>
        <span class="muted">
          {job.state}
          {isRunning && job.progress !== null && `, ${percent(job.progress, 0)}`}
        </span>
        <span class="spacer" />
        {isRunning && (
          <button type="button" onClick={cancel}>
            Cancel
          </button>
        )}
      </div>
      {isRunning && <progress value={job.progress ?? undefined} max={1} aria-label={`Progress of ${jobTitle(job)}`} />}
      {job.message && <p class="note">{plainMessage(job.message)}</p>}
    </li>
  );
}
