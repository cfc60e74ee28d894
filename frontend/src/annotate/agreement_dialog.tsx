/** How far the annotators agree, pair by pair. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Dialog } from "../shared/dialog.tsx";
import { formatCount } from "../shared/format.ts";
import { getAgreement } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { Agreement } from "./types.ts";

export function AgreementDialog({ onClose }: { readonly onClose: () => void }) {
  const session = useSession();
  const pairs = useSignal<readonly Agreement[] | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    getAgreement().then(
      (loaded) => {
        pairs.value = loaded;
      },
      (error) => {
        problem.value = (error as Error).message;
      },
    );
  }, []);
  const showDisagreements = () => {
    void session.setQuery({ filters: ["disagrees"], filterClass: null });
    onClose();
  };
  return (
    <Dialog title="Agreement of annotators" onClose={onClose}>
      {problem.value && <p class="error-message">{problem.value}</p>}
      {pairs.value?.length === 0 && <p class="muted">No two annotators have labeled the same cells.</p>}
      {pairs.value && pairs.value.length > 0 && (
        <>
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">annotators</th>
                <th scope="col">both labeled</th>
                <th scope="col">differ</th>
                <th scope="col">Cohen's kappa</th>
              </tr>
            </thead>
            <tbody>
              {pairs.value.map(({ a, b, n_both, n_disagree, kappa }) => (
                <tr key={`${a} ${b}`}>
                  <th scope="row">
                    {a}, {b}
                  </th>
                  <td>{formatCount(n_both)}</td>
                  <td>{formatCount(n_disagree)}</td>
                  <td>{kappa === null ? "" : kappa.toFixed(2)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <button type="button" onClick={showDisagreements}>
            Show the cells on which they differ
          </button>
        </>
      )}
    </Dialog>
  );
}
