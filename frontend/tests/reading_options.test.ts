import { expect, it } from "vitest";
import { DEFAULT_OPTIONS, readingParams } from "../src/annotate/reading_options.tsx";

it("sends what the user says of a stack, and a segmenter only without a mask", () => {
  expect(`${readingParams(DEFAULT_OPTIONS, false)}`).toBe("");
  const options = { voxelSize: "1, 0.5, 0.5", channel: " 2 ", segment: "cellpose" };
  expect([...readingParams(options, false)]).toEqual([
    ["voxel_size", "1,0.5,0.5"],
    ["channel", "2"],
    ["segment", "cellpose"],
  ]);
  expect(readingParams(options, true).has("segment")).toBe(false);
});
