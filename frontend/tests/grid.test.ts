import { describe, expect, it, vi } from "vitest";
import { BatchLoader } from "../src/grid/batch_loader.ts";
import { brighten } from "../src/grid/brighten.ts";
import { gridGeometry, positionAt, scrollToShow, tileRect, visibleRange } from "../src/grid/geometry.ts";
import { toRgba } from "../src/grid/image_cache.ts";

describe("geometry", () => {
  const geometry = gridGeometry(100_000, 800, 72, 6);

  it.each([0, 9, 10, 54_321, 99_999])(
    "finds position %i at the middle of its tile, and nothing in the gap",
    (position) => {
      const { x, y } = tileRect(geometry, position);
      expect(positionAt(geometry, 100_000, x + 36, y + 36)).toBe(position);
      expect(positionAt(geometry, 100_000, x + 75, y + 36)).toBe(null);
      expect(positionAt(geometry, position, x + 36, y + 36)).toBe(null);
    },
  );

  it("shows whole rows", () => {
    expect(geometry.columns).toBe(10);
    expect(visibleRange(geometry, 100_000, 0, 78)).toEqual([0, 10]);
    expect(visibleRange(geometry, 100_000, 7800, 7900)).toEqual([990, 1020]);
    expect(visibleRange(geometry, 5, 0, 500)).toEqual([0, 5]);
  });

  it("scrolls only to what is out of view", () => {
    expect(scrollToShow(geometry, 15, 0, 400)).toBe(null);
    const top = scrollToShow(geometry, 1000, 0, 400) as number;
    expect(scrollToShow(geometry, 1000, top, 400)).toBe(null);
    expect(scrollToShow(geometry, 0, 5000, 400)).toBe(0);
  });

  it("keeps one column in a narrow window", () => {
    expect(gridGeometry(3, 20, 72, 6).columns).toBe(1);
  });
});

it("loads the newest wish in batches, each cell once", async () => {
  const loaded = new Set<number>();
  const load = vi.fn(async (cells: number[]) => {
    for (const cell of cells) loaded.add(cell);
  });
  const isLoaded = (cell: number) => loaded.has(cell);
  const loader = new BatchLoader({ size: 2, concurrency: 1, load, isLoaded, onLoad() {} });
  loader.want([1, 2, 3]);
  loader.want([7, 8, 9]);
  await vi.waitFor(() => expect(loaded.has(9)).toBe(true));
  expect(load.mock.calls).toEqual([[[1, 2]], [[7, 8]], [[9]]]);
});

it("turns gray and color images into RGBA", () => {
  expect([...toRgba(new Uint8Array([5, 6]), 1)]).toEqual([5, 5, 5, 255, 6, 6, 6, 255]);
  expect([...toRgba(new Uint8Array([1, 2, 3]), 3)]).toEqual([1, 2, 3, 255]);
});

it("makes each cell as bright as the others, but for a few pixels", () => {
  const dark = Uint8Array.from({ length: 1000 }, (_, i) => (i === 7 ? 200 : i % 51));
  const bright = dark.map((value) => Math.min(255, 5 * value));
  const pixels = brighten(Uint8Array.from([...dark, ...bright, ...new Uint8Array(1000)]), 1000);
  expect([pixels[7], pixels[50], pixels[25], pixels[0]]).toEqual([255, 255, 128, 0]);
  for (let i = 0; i < 1000; i++) expect(pixels[1000 + i]).toBe(pixels[i]);
  expect(pixels.subarray(2000).every((value) => value === 0)).toBe(true);
});
