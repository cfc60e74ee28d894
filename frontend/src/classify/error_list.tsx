/** Files and cells without a prediction, and what to do about them. */
import { adviceInPage } from "../shared/advice.ts";
import { formatCount } from "../shared/format.ts";
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
