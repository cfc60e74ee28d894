/** How stacks and color images are read, where their files don't say it. */
import type { Signal } from "@preact/signals";
import { DEFAULT_SEGMENTER, SegmenterField } from "../shared/segmenter_field.tsx";
import { useSession } from "./session_context.ts";

export interface ReadingOptions {
  readonly voxelSize: string;
  readonly channel: string;
  readonly segment: string;
}

export const DEFAULT_OPTIONS: ReadingOptions = { voxelSize: "", channel: "", segment: DEFAULT_SEGMENTER };

/** The query of an upload, which has a mask or not. */
export function readingParams({ voxelSize, channel, segment }: ReadingOptions, hasMask: boolean): URLSearchParams {
  const params = new URLSearchParams();
  if (voxelSize.trim()) params.set("voxel_size", voxelSize.replaceAll(/\s/g, ""));
  if (channel.trim()) params.set("channel", channel.trim());
  if (segment !== DEFAULT_SEGMENTER && !hasMask) params.set("segment", segment);
  return params;
}

export function ReadingOptionFields({ options }: { readonly options: Signal<ReadingOptions> }) {
  const { project } = useSession();
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
          placeholder="from the file"
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
      <SegmenterField
        id="segment"
        segmenters={project.value?.segmenters ?? []}
        value={options.value.segment}
        onChange={(segment) => change({ segment })}
      />
    </details>
  );
}
