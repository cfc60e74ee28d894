/** The cells most similar to one, by the model's features. */
import { CellThumbnail } from "./cell_thumbnail.tsx";
import { useSession } from "./session_context.ts";
import type { CellCard } from "./types.ts";

export function SimilarCells({ card }: { readonly card: CellCard }) {
  const session = useSession();
  if (card.similar.length === 0) return null;
  return (
    <section class="similar-cells">
      <h3>Most similar cells</h3>
      <ul>
        {card.similar.map(({ cell, similarity, label }) => {
          const item = session.classOf(session.cells.label(cell) ?? label);
          return (
            <li key={cell}>
              <button
                type="button"
                class="thumbnail"
                style={{ outlineColor: item?.color ?? "transparent" }}
                aria-label={`Cell ${cell}, ${item ? item.name : "no label"}, similarity ${similarity.toFixed(2)}`}
                onClick={() => session.openCard(cell)}
              >
                <CellThumbnail cell={cell} />
              </button>
              <span>{similarity.toFixed(2)}</span>
            </li>
          );
        })}
      </ul>
      <button
        type="button"
        onClick={() => session.setQuery({ sort: "similarity", similarTo: card.cell, descending: false })}
      >
        Sort the gallery by similarity to this cell
      </button>
    </section>
  );
}
