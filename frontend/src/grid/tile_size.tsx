/** How large the cells of a gallery are. */
import type { Signal } from "@preact/signals";

const SIZES = [
  { tile: 48, name: "Small" },
  { tile: 72, name: "Medium" },
  { tile: 112, name: "Large" },
] as const;

export function TileSize({ tile }: { readonly tile: Signal<number> }) {
  return (
    <label class="wide-only">
      <span class="visually-hidden">Size of the cells</span>
      <select
        value={tile.value}
        onChange={(event) => {
          tile.value = Number(event.currentTarget.value);
        }}
      >
        {SIZES.map((size) => (
          <option key={size.tile} value={size.tile}>
            {size.name}
          </option>
        ))}
      </select>
    </label>
  );
}
