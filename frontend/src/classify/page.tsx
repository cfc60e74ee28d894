/** The page that classifies what is uploaded: where to drop it, the results as a gallery, and the card of a cell. */
import { useEffect } from "preact/hooks";
import { routeUrl } from "../shared/api.ts";
import { useDroppedFiles } from "../shared/drop_target.ts";
import { classNames, formatCount, percent, plainMessage } from "../shared/format.ts";
import { Examples } from "./examples.tsx";
import { Hero } from "./hero.tsx";
import { Results } from "./results.tsx";
import { useSession } from "./session_context.ts";

export function ClassifyPage({ projectUrl }: { readonly projectUrl: string | null }) {
  const session = useSession();
  const isOver = useDroppedFiles((files, note) => void session.upload(files, note));
  const isBusy = session.progress.value !== null;
  useEffect(() => {
    if (isBusy) document.getElementById("progress")?.scrollIntoView({ block: "nearest" });
  }, [isBusy]);
  return (
    <div class={classNames("classify", isOver && "drag-over")}>
      <a class="skip" href="#content">
        Skip to the results
      </a>
      <Hero projectUrl={projectUrl} />
      <main id="content" class="container" tabIndex={-1}>
        <Examples />
        <ProgressBar />
        <Results />
      </main>
      <Footer />
    </div>
  );
}

function ProgressBar() {
  const session = useSession();
  const progress = session.progress.value;
  if (!progress) return null;
  const { share, text } = progress;
  return (
    <section id="progress" aria-label="Progress" class="row">
      {share === null ? (
        <progress aria-label="Files processed" />
      ) : (
        <progress aria-label="Files processed" max={1} value={share} />
      )}
      <span id="progress-text" role="status">
        {text}
      </span>
      <button type="button" id="stop" onClick={() => session.stop()}>
        Stop
      </button>
    </section>
  );
}

function Footer() {
  const info = useSession().model.value?.model;
  return (
    <footer>
      <div class="container">
        {info && (
          <p id="model-info">
            {info.test_accuracy !== null &&
              `Test accuracy on ${info.training_data}: ${percent(info.test_accuracy)} (${info.test_setup})${
                info.training_subset && `, trained on a ${info.training_subset}`
              }. `}
            {info.cross_validation !== null &&
              `Accuracy in cross-validation on ${formatCount(info.cross_validation.n)} training images: ${percent(
                info.cross_validation.accuracy,
              )}. `}
            {info.limitations.map(plainMessage).join(" ")}
          </p>
        )}
        <p>
          For programs: <a href={routeUrl("api").href}>the API</a>,{" "}
          <a href={routeUrl("openapi.json").href}>its OpenAPI description</a>, and{" "}
          <a href={routeUrl("metrics").href}>metrics</a>.
        </p>
      </div>
    </footer>
  );
}
