/** Shows each cell of a gallery at full contrast or, when it is not pressed, as bright as it is stored. */
import type { Signal } from "@preact/signals";

export function BrightenButton({ isOn }: { readonly isOn: Signal<boolean> }) {
  return (
    <button
      type="button"
      class="quiet"
      aria-pressed={isOn.value}
      aria-label="Brighten dark cells"
      title="Brighten dark cells"
      onClick={() => {
        isOn.value = !isOn.value;
      }}
    >
      ☀
    </button>
  );
}
