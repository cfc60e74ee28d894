/** A nucleus in its tissue: slices around it, its outline, and its neighbors. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { getTissue } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { Tissue } from "./types.ts";

export function TissueView({ cell }: { readonly cell: number }) {
  const tissue = useSignal<Tissue | null>(null);
  const problem = useSignal("");
  const slice = useSignal(0);
  useEffect(() => {
    const controller = new AbortController();
    problem.value = "";
    getTissue(cell, controller.signal).then(
      (loaded) => {
        slice.value = loaded.center;
        tissue.value = loaded;
      },
      (error) => {
        tissue.value = null;
        if (!controller.signal.aborted) problem.value = (error as Error).message;
      },
    );
    return () => controller.abort();
  }, [cell]);
  if (problem.value) return <p class="note">{problem.value}</p>;
  if (!tissue.value) return null;
  const { slices, z } = tissue.value;
  return (
    <section class="tissue">
      <h3>In the tissue</h3>
      <Slice tissue={tissue.value} index={Math.min(slice.value, slices.length - 1)} />
      {slices.length > 1 && (
        <label class="slider">
          Slice {z[slice.value] ?? slice.value}
          <input
            type="range"
            min={0}
            max={slices.length - 1}
            value={slice.value}
            onInput={(event) => {
              slice.value = Number(event.currentTarget.value);
            }}
          />
        </label>
      )}
    </section>
  );
}

function Slice({ tissue, index }: { readonly tissue: Tissue; readonly index: number }) {
  const session = useSession();
  const { height, width, outlines, neighbors } = tissue;
  const radius = Math.max(height, width) / 40;
  return (
    <div class="slice">
      <img src={tissue.slices[index]} alt={`Slice ${tissue.z[index] ?? index}`} />
      <svg viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
        <path d={outlines[index] ?? ""} />
        {neighbors
          .filter(({ slice }) => slice === index)
          .map(({ cell, y, x }) => (
            <circle
              key={cell}
              cx={x}
              cy={y}
              r={radius}
              style={{ fill: session.classOf(session.cells.label(cell))?.color ?? "transparent" }}
            />
          ))}
      </svg>
    </div>
  );
}
