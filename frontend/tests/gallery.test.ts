import { describe, expect, it } from "vitest";
import { continueOrder, decodeOrder } from "../src/annotate/cell_order.ts";
import { DEFAULT_QUERY, queryParams } from "../src/annotate/gallery_query.ts";
import { commandOf, pageCommandOf } from "../src/annotate/keys.ts";
import { latestOnly } from "../src/annotate/latest_only.ts";
import { Selection } from "../src/annotate/selection.ts";
import { moveTarget } from "../src/grid/moves.ts";
import { maskOf } from "../src/shared/stack_files.ts";

const key = (name: string, modifiers: Partial<KeyboardEvent> = {}) =>
  commandOf({ key: name, shiftKey: false, ctrlKey: false, metaKey: false, altKey: false, ...modifiers });

it("labels from anywhere but fields and dialogs, and leaves a button its own keys", () => {
  const commandAt = (tag: string, name: string, attributes: Record<string, string> = {}) => {
    const event = new KeyboardEvent("keydown", { key: name, bubbles: true });
    const target = document.body.appendChild(Object.assign(document.createElement(tag), attributes));
    target.dispatchEvent(event);
    return pageCommandOf(event)?.kind ?? null;
  };
  expect(commandAt("button", "1")).toBe("label");
  expect(commandAt("p", "z")).toBe("undo");
  expect([commandAt("input", "1"), commandAt("dialog", "1"), commandAt("select", "1")]).toEqual([null, null, null]);
  const kinds = ["checkbox", "range", "text", "file"].map((type) => commandAt("input", "1", { type }));
  expect(kinds).toEqual(["label", "label", null, null]);
  expect([commandAt("button", "Enter"), commandAt("button", " "), commandAt("button", "a")]).toEqual([
    null,
    null,
    null,
  ]);
});

it("never moves what is on the screen", () => {
  const shown = Uint32Array.of(5, 4, 3, 2, 1);
  const next = Uint32Array.of(1, 2, 6, 5);
  expect([...continueOrder(shown, next, 2)]).toEqual([5, 4, 1, 2, 6]);
  expect([...continueOrder(shown, next, 0)]).toEqual([1, 2, 6, 5]);
});

it("reads an order as little-endian numbers", () => {
  expect([...decodeOrder(new Uint8Array([1, 2, 0, 0, 255, 255, 255, 255]).buffer)]).toEqual([513, 4294967295]);
});

it("asks only for what a sort and a filter need", () => {
  expect(queryParams({ ...DEFAULT_QUERY, sortClass: 3, similarTo: 4 }, "a & b").toString()).toBe("sort=uncertainty");
  const query = { ...DEFAULT_QUERY, sort: "probability", sortClass: 3, filters: ["mine"], filterClass: 2 } as const;
  const text = "sort=probability&class=3&filter=mine&filter=class%3A2&annotator=a+%26+b";
  expect(queryParams(query, "a & b").toString()).toBe(text);
});

describe("keys", () => {
  it("label, move, undo", () => {
    expect(key("1")).toEqual({ kind: "label", index: 0 });
    expect(key("0")).toEqual({ kind: "unlabel" });
    expect(key("ArrowLeft", { shiftKey: true })).toEqual({ kind: "move", to: "left", extend: true });
    expect(key("z", { ctrlKey: true })).toEqual({ kind: "undo" });
    expect(key("Z", { metaKey: true, shiftKey: true })).toEqual({ kind: "redo" });
    expect(key("U")).toEqual({ kind: "next-unsure" });
  });

  it("leave the browser's own alone", () => {
    for (const name of ["Tab", "F5", "q", "Shift"]) expect(key(name)).toBe(null);
    expect(key("r", { ctrlKey: true })).toBe(null);
    expect(key("1", { altKey: true })).toBe(null);
  });

  it("stay within the gallery", () => {
    expect(moveTarget("up", 3, 100, 10, 5)).toBe(3);
    expect(moveTarget("down", 95, 100, 10, 5)).toBe(95);
    expect(moveTarget("pagedown", 80, 100, 10, 5)).toBe(99);
    expect(moveTarget("left", 0, 100, 10, 5)).toBe(0);
    expect(moveTarget("end", 4, 100, 10, 5)).toBe(99);
  });
});

it("extends a selection from its anchor both ways, and takes single cells in and out", () => {
  const order = Uint32Array.of(50, 40, 30, 20);
  const selection = new Selection();
  selection.clear(2);
  selection.extendTo(order, 3);
  expect(selection.cells()).toEqual([30, 20]);
  selection.extendTo(order, 0);
  expect(selection.cells()).toEqual([50, 40, 30]);
  selection.toggle(40, 1);
  selection.toggle(20, 3);
  expect(selection.cells()).toEqual([50, 30, 20]);
});

it("runs a task again once, however often it was asked for meanwhile", async () => {
  let n = 0;
  const finish: (() => void)[] = [];
  const run = latestOnly(() => {
    n++;
    return new Promise((resolve) => finish.push(resolve));
  });
  const done = run();
  run();
  run();
  finish[0]?.();
  await expect.poll(() => finish.length).toBe(2);
  finish[1]?.();
  await done;
  expect(n).toBe(2);
});

it.each([
  [["kidney.tif", "kidney_mask.tif"], "kidney_mask.tif"],
  [["labels.tif", "stack.tif"], "labels.tif"],
  [["a.tif", "b.tif"], undefined],
  [["mask.tif"], undefined],
  [["masked1.tif", "unlabeled.tif"], undefined],
])("recognizes the mask in %j", (names, mask) => {
  expect(maskOf(names.map((name) => new File([], name)))?.name).toBe(mask);
});
