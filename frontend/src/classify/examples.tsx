/** Cells for visitors who have none at hand; folded away once there are results. */
import { useSignal, useSignalEffect } from "@preact/signals";
import { useSession } from "./session_context.ts";
import type { Sample } from "./types.ts";

export function Examples() {
  const session = useSession();
  const isOpen = useSignal(true);
  const hasResults = useSignal(false);
  useSignalEffect(() => {
    session.version.value;
    const had = hasResults.peek();
    hasResults.value = session.store.results.length > 0;
    if (had !== hasResults.value) isOpen.value = !hasResults.value;
  });
  const groups = groupBySource(session.samples.value);
  if (groups.size === 0) return null;
  return (
    <details
      id="samples"
      open={isOpen.value}
      onToggle={(event) => {
        isOpen.value = event.currentTarget.open;
      }}
    >
      <summary>
        <h2>{hasResults.value ? "Examples" : "No images at hand? Try one of these"}</h2>
      </summary>
      <div id="sample-groups">
        {[...groups].map(([source, samples]) => (
          <section key={source} class="sample-group">
            <h3>
              {samples[0]?.synthetic
                ? "Synthetic nuclei, drawn by nephros: predictions for them mean little"
                : `Labeled ${source}`}
            </h3>
            <ul class="sample-strip">
              {samples.map((sample) => (
                <li key={sample.name}>
                  <SampleButton sample={sample} />
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </details>
  );
}

function SampleButton({ sample }: { readonly sample: Sample }) {
  const session = useSession();
  return (
    <button type="button" onClick={() => void session.predictSample(sample)}>
      <img src={sample.preview} alt={sample.synthetic ? "Synthetic cell" : `Cell of class ${sample.true_class}`} />
      {!sample.synthetic && <small>{sample.true_class}</small>}
    </button>
  );
}

function groupBySource(samples: readonly Sample[]): Map<string, Sample[]> {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) groups.set(sample.source, [...(groups.get(sample.source) ?? []), sample]);
  return groups;
}
