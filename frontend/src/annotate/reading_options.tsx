/** How stacks and color images are read, where their files don't say it. */
import type { Signal } from "@preact/signals";

export interface ReadingOptions {
  readonly voxelSize: string;
  readonly channel: string;
}

export const DEFAULT_OPTIONS: ReadingOptions = { voxelSize: "", channel: "" };

/** The query of an upload. */
export function readingParams({ voxelSize, channel }: ReadingOptions): URLSearchParams {
  const params = new URLSearchParams();
  if (voxelSize.trim()) params.set("voxel_size", voxelSize.replaceAll(/\s/g, ""));
  if (channel.trim()) params.set("channel", channel.trim());
  return params;
}

export function ReadingOptionFields({ options }: { readonly options: Signal<ReadingOptions> }) {
  const change = (part: Partial<ReadingOptions>) => {
    options.value = { ...options.value, ...part };
  };
  return (
    <details class="reading-options">
      <summary>Options</summary>
      <label>
        Voxel size of a stack: z, y, x in µm
        <input
          type="text"
          maxLength={60}
          placeholder="of the file"
          value={options.value.voxelSize}
          onInput={(event) => change({ voxelSize: event.currentTarget.value })}
        />
      </label>
      <label>
        Channel with the nuclei, from 0
        <input
          type="number"
          min={0}
          max={255}
          placeholder="automatic"
          value={options.value.channel}
          onInput={(event) => change({ channel: event.currentTarget.value })}
        />
      </label>
    </details>
  );
}
