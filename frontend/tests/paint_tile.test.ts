/** What is drawn of a cell: the frame of its label leaves the bar of the prediction to be seen. */
import { expect, test } from "vitest";
import { paintTile } from "../src/grid/paint_tile.ts";

type Rectangle = readonly [number, number, number, number];

function paint(frame: string | null): { bar: Rectangle; frames: Rectangle[] } {
  const filled: { color: string; rectangle: Rectangle }[] = [];
  const frames: Rectangle[] = [];
  const context = {
    fillStyle: "",
    fillRect: (...rectangle: Rectangle) => filled.push({ color: context.fillStyle, rectangle }),
    strokeRect: (...rectangle: Rectangle) => frames.push(rectangle),
  };
  const marks = { frame, bar: "#00f", barLength: 0.5 };
  const theme = { selection: "#fff", placeholder: "#ccc", warning: "#f00" };
  const canvas = context as unknown as CanvasRenderingContext2D;
  paintTile(canvas, 100, 200, 72, undefined, { width: 28, height: 28 }, marks, theme);
  const bar = filled.find((each) => each.color === "#00f");
  if (!bar) throw new Error("no bar");
  return { bar: bar.rectangle, frames };
}

test("without a label the bar takes the cell's lower edge", () => {
  expect(paint(null)).toEqual({ bar: [100, 268, 36, 4], frames: [] });
});

test("a frame of four pixels goes around the bar", () => {
  expect(paint("#0f0")).toEqual({ bar: [104, 264, 32, 4], frames: [[102, 202, 68, 68]] });
});
