/** Files and cells without a prediction, and what to do about them. */
import { formatCount, plainMessage } from "../shared/format.ts";
import { displayName } from "./result_store.ts";
import { useSession } from "./session_context.ts";

const MAX_SHOWN = 100;

export function ErrorList() {
  const session = useSession();
  session.version.value;
  const errors = session.store.errors();
  if (errors.length === 0) return null;
  return (
    <section aria-label="Failed">
      <ul class="errors">
        {errors.slice(0, MAX_SHOWN).map((result, i) => (
          <li key={i} class="failed error-message">
            {!result.error?.includes(result.file) && <span class="filename">{displayName(result)}: </span>}
            {adviceInPage(result.error ?? "")}
          </li>
        ))}
      </ul>
      {errors.length > MAX_SHOWN && (
        <p class="muted">and {formatCount(errors.length - MAX_SHOWN)} more, all of them in the table.</p>
      )}
    </section>
  );
}

const FIELDS: Readonly<Record<string, string>> = { voxel_size: "the voxel size", channel: "the channel" };

/** An error of the library, with the field of the page in place of the parameter that helps. */
export function adviceInPage(error: string): string {
  const advice = /^(.*?)[;,] (?:give|set) `(voxel_size|channel)`/s.exec(error);
  if (!advice) return plainMessage(error);
  const [, problem, parameter] = advice as unknown as [string, string, string];
  return `${plainMessage(problem)}: enter ${FIELDS[parameter]} under Options, and upload it again.`;
}
