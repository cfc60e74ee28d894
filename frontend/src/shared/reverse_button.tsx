export function ReverseButton({ isOn, onClick }: { readonly isOn: boolean; readonly onClick: () => void }) {
  return (
    <button
      type="button"
      class="quiet"
      aria-pressed={isOn}
      aria-label="Reverse the order"
      title="Reverse the order"
      onClick={onClick}
    >
      ⇅
    </button>
  );
}
