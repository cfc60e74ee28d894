/** What the user says of the files before they are uploaded. */
import { SegmenterField } from "../shared/segmenter_field.tsx";
import type { Options } from "./session.ts";
import { useSession } from "./session_context.ts";

const COVERAGES = ["0.8", "0.9", "0.95", "0.99"];

export function UploadOptions() {
  const session = useSession();
  const options = session.options.value;
  const whiteLevel = session.model.value?.model.input.white_level ?? null;
  const change = (part: Partial<Options>) => {
    session.options.value = { ...options, ...part };
  };
  return (
    <details class="options">
      <summary>Options</summary>
      <div>
        <label for="coverage">Prediction sets contain the true class for</label>
        <select
          id="coverage"
          value={options.coverage}
          onChange={(event) => change({ coverage: event.currentTarget.value })}
        >
          {COVERAGES.map((value) => (
            <option key={value} value={value}>
              {Math.round(100 * Number(value))}% of cells
            </option>
          ))}
        </select>
      </div>
      <div>
        <label for="white-level">White level of 16-bit images</label>
        <input
          id="white-level"
          type="number"
          min="0"
          max="2147483648"
          step="any"
          inputMode="decimal"
          placeholder={whiteLevel === null ? "brightest" : String(whiteLevel)}
          value={options.whiteLevel}
          onInput={(event) => change({ whiteLevel: event.currentTarget.value })}
        />
        <small>
          {whiteLevel === null
            ? "Without a value, the brightest pixel of each upload of up to 24 files becomes white. To compare brightness across many files, enter a value such as 4095."
            : "Without a value, the level of the training images is used."}
        </small>
      </div>
      <div>
        <label for="channel">Channel of the nuclei</label>
        <input
          id="channel"
          type="text"
          maxLength={200}
          placeholder="automatic"
          value={options.channel}
          onInput={(event) => change({ channel: event.currentTarget.value })}
        />
        <small>
          For color images (0 is red, 1 green, 2 blue) and files with several channels; for stacks also its name, such
          as DAPI. Without a value, the color of single-color images is recognized.
        </small>
      </div>
      <div>
        <label for="voxel-size">Voxel size of stacks: z, y, x in µm</label>
        <input
          id="voxel-size"
          type="text"
          maxLength={60}
          placeholder="from the file"
          value={options.voxelSize}
          onInput={(event) => change({ voxelSize: event.currentTarget.value })}
        />
        <small>Such as 1, 0.5, 0.5. Needed where the file does not state it.</small>
      </div>
      <div>
        <SegmenterField
          id="segment"
          segmenters={session.server.value?.segmenters ?? []}
          value={options.segment}
          onChange={(segment) => change({ segment })}
        />
      </div>
    </details>
  );
}
