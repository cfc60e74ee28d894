/** The image of a cell, and its heat map on demand. */
import { useSignal } from "@preact/signals";
import { heatMapUrl } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { CellCard } from "./types.ts";

export function CardImage({ card, color }: { readonly card: CellCard; readonly color: string | null }) {
  const session = useSession();
  const showsHeatMap = useSignal(false);
  const problem = useSignal("");
  const canExplain = card.class !== null;
  return (
    <figure class="card-image">
      <div class="preview" style={{ outlineColor: color ?? "transparent" }}>
        <img src={card.image} alt={`Cell ${card.cell}`} />
        {canExplain && showsHeatMap.value && (
          <img
            key={`${card.cell} ${session.cardVersion.value}`}
            class="heat-map"
            src={heatMapUrl(card.cell)}
            alt={`Heat map: evidence for ${session.className(card.class) ?? "the predicted class"}`}
            onError={() => {
              problem.value = "The heat map is not available.";
            }}
            onLoad={() => {
              problem.value = "";
            }}
          />
        )}
      </div>
      <figcaption>
        {canExplain && (
          <label class="checkbox">
            <input
              type="checkbox"
              checked={showsHeatMap.value}
              onChange={(event) => {
                showsHeatMap.value = event.currentTarget.checked;
              }}
            />{" "}
            Heat map
          </label>
        )}
        {problem.value && <p class="note">{problem.value}</p>}
        {card.location && <Location card={card} />}
      </figcaption>
    </figure>
  );
}

function Location({ card }: { readonly card: CellCard }) {
  const { source, id, z, y, x } = card.location as NonNullable<CellCard["location"]>;
  const coordinates = [z, y, x].every((value) => value !== null)
    ? `z ${format(z)}, y ${format(y)}, x ${format(x)}`
    : "";
  return (
    <p class="note">
      {source}
      {id !== null && `, nucleus ${id}`}
      {coordinates && (
        <>
          <br />
          {coordinates}
        </>
      )}
    </p>
  );
}

const format = (value: number | null): string => (value === null ? "" : String(Math.round(value * 10) / 10));
