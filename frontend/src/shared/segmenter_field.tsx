/** How the nuclei of a stack without a mask are found: a choice where the server has several ways. */
interface Props {
  readonly id: string;
  readonly segmenters: readonly string[];
  readonly value: string;
  readonly onChange: (value: string) => void;
}

export const DEFAULT_SEGMENTER = "rough";
const TEXTS: Readonly<Record<string, string>> = {
  rough: "roughly, by threshold and watershed",
  cellpose: "with cellpose, in 3-D",
  stardist: "with StarDist, slice by slice",
};

export function SegmenterField({ id, segmenters, value, onChange }: Props) {
  if (segmenters.length < 2) {
    return (
      <p class="note">
        Without a mask, the nuclei of a stack are segmented roughly, by threshold and watershed. If cellpose or StarDist
        is installed beside nephros, you can choose it here.
      </p>
    );
  }
  return (
    <>
      <label for={id}>Segment the nuclei of stacks without a mask</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {segmenters.map((name) => (
          <option key={name} value={name}>
            {TEXTS[name] ?? name}
          </option>
        ))}
      </select>
      <small>
        Without a GPU, StarDist takes minutes per stack, and cellpose may take hours. Each downloads its model once.
      </small>
    </>
  );
}
