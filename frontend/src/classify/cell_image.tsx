/** A cell as the model sees it, and its saliency map on demand. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { brighten } from "../grid/brighten.ts";
import { toRgba } from "../grid/image_cache.ts";
import { plainMessage } from "../shared/format.ts";
import { type CellResult, displayName, NO_IMAGE } from "./result_store.ts";
import { colorOf } from "./session.ts";
import { useSession } from "./session_context.ts";
import type { Model, SaliencyMap } from "./types.ts";

export function CellImage({ cell, result }: { readonly cell: number; readonly result: CellResult }) {
  const session = useSession();
  const { input } = (session.model.value as Model).model;
  const pixels = session.store.pixels(cell);
  const image = useRef<HTMLCanvasElement>(null);
  const isShown = useSignal(false);
  const saliency = useSignal<SaliencyMap | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    if (!pixels) return;
    const shown = input.channels === 1 ? brighten(pixels, pixels.length) : pixels;
    const rgba = toRgba(shown, input.channels);
    image.current?.getContext("2d")?.putImageData(new ImageData(rgba, input.width, input.height), 0, 0);
  }, [cell]);
  useEffect(() => {
    if (!isShown.value || saliency.peek()) return;
    const controller = new AbortController();
    session.explain(cell, "saliency", controller.signal).then(
      ({ saliency_map }) => {
        saliency.value = saliency_map ?? null;
      },
      (error: Error) => {
        if (!controller.signal.aborted) problem.value = plainMessage(error.message);
      },
    );
    return () => controller.abort();
  }, [isShown.value]);
  const notes = [...(result.notes ?? []).map(plainMessage)];
  if (isShown.value && saliency.value) {
    notes.unshift(`Orange: evidence for the predicted class (${saliency.value.method}).`);
  }
  if (!pixels) notes.push(NO_IMAGE);
  return (
    <figure class="card-image">
      <div class="preview" style={{ outlineColor: colorOf(result.label) }}>
        {pixels && (
          <canvas
            ref={image}
            class="cell"
            width={input.width}
            height={input.height}
            role="img"
            aria-label={`The cell ${displayName(result)}, at full contrast`}
          />
        )}
        {isShown.value && saliency.value && <SaliencyCanvas map={saliency.value} className={result.class_name} />}
      </div>
      <figcaption>
        {pixels && (
          <label class="checkbox">
            <input
              id="show-saliency"
              type="checkbox"
              checked={isShown.value}
              onChange={(event) => {
                isShown.value = event.currentTarget.checked;
              }}
            />{" "}
            Heat map
          </label>
        )}
        {typeof result.z === "number" && <Place result={result} />}
        {problem.value && <p class="note">The heat map is not available. {problem.value}</p>}
        {notes.map((note) => (
          <p key={note} class="note">
            {note}
          </p>
        ))}
      </figcaption>
    </figure>
  );
}

function SaliencyCanvas({ map, className }: { readonly map: SaliencyMap; readonly className: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const height = map.values.length;
  const width = map.values[0]?.length ?? 1;
  useEffect(() => {
    const image = new ImageData(width, height);
    map.values.flat().forEach((value, i) => {
      image.data.set([255, 140, 40, Math.round(140 * value ** 1.5)], 4 * i);
    });
    canvas.current?.getContext("2d")?.putImageData(image, 0, 0);
  }, [map]);
  return (
    <canvas
      ref={canvas}
      class="saliency"
      width={width}
      height={height}
      role="img"
      aria-label={`Heat map: evidence for ${className}`}
    />
  );
}

function Place({ result }: { readonly result: CellResult }) {
  const places = (["z", "y", "x"] as const).map((axis) => `${axis} ${result[axis]?.toFixed(1)}`);
  const volume = typeof result.volume_um3 === "number" ? `${result.volume_um3.toFixed(0)} µm³` : "";
  return (
    <p class="note">
      {places.join(", ")}
      {volume && (
        <>
          <br />
          {volume}
        </>
      )}
      {result.at_border && (
        <>
          <br />
          cut by the edge of the stack
        </>
      )}
    </p>
  );
}
