import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Session } from "../src/annotate/session.ts";
import type { LabelChange } from "../src/annotate/types.ts";
import { CLASS_COLORS } from "../src/shared/palette.ts";

const CELLS = [0, 1, 2, 3, 4, 5];

/** A server of one project at a time, as far as the page asks it. */
class FakeServer {
  project = "kidney";
  order = CELLS;
  readonly saved: LabelChange[] = [];
  readonly annotators: string[] = [];

  readonly respond = async (url: URL, init: RequestInit = {}): Promise<Response> => {
    const expected = new Headers(init.headers).get("X-Nephros-Project");
    if (expected !== null && expected !== this.project) return Response.json({ error: "Reload." }, { status: 412 });
    const route = url.pathname.replace(/^.*\/project/, "");
    if (route === "") return Response.json(this.#describe());
    if (route === "/order") return new Response(Uint32Array.from(this.order).buffer);
    if (route === "/cells") return Response.json(url.searchParams.get("cells")?.split(",").map(describeCell));
    if (route === "/labels") {
      const { annotator, changes } = JSON.parse(init.body as string);
      this.annotators.push(annotator);
      this.saved.push(...changes);
    }
    return Response.json({});
  };

  #describe() {
    const classes = ["tubule", "glomerulus"].map((name, id) => ({ id, name, color: CLASS_COLORS[id], n_labels: 0 }));
    const image = { height: 2, width: 2, channels: 1 };
    return { id: this.project, token: this.project, name: this.project, n_cells: 6, image, classes, jobs: [] };
  }
}

const describeCell = (cell: string) => ({
  ...{ cell: Number(cell), label: null, labels_by: {}, class: null, probability: null },
  ...{ set: [], is_ood: false, is_suspicious: false },
});

/** The session of a page that was just loaded: modules keep nothing of the page before. */
async function openPage(): Promise<Session> {
  vi.resetModules();
  const page = await import("../src/annotate/session.ts");
  const session = new page.Session();
  await session.refresh();
  await vi.waitFor(() => expect(session.isOrderLoaded.value).toBe(true));
  return session;
}

let server: FakeServer;

beforeEach(() => {
  sessionStorage.clear();
  server = new FakeServer();
  vi.stubGlobal("fetch", (url: URL, init?: RequestInit) => server.respond(url, init));
});

afterEach(() => vi.restoreAllMocks());

test("a page whose server was started with another project starts anew, and keeps its labels for their own project", async () => {
  const reload = vi.spyOn(location, "reload").mockImplementation(() => {});
  const page = await openPage();
  server.project = "liver";
  page.labeling.labelCells([3], 1);
  await page.refresh();
  expect(reload).toHaveBeenCalledOnce();
  expect(page.project.value?.name).toBe("kidney");
  const ofLiver = await openPage();
  expect([ofLiver.project.value?.name, ofLiver.queue.size]).toEqual(["liver", 0]);
  expect(server.saved).toEqual([]);
  server.project = "kidney";
  await openPage();
  await vi.waitFor(() => expect(server.saved).toContainEqual({ cell: 3, class: 1 }));
  page.queue.retryNow(); // not into the tests after this one
  await vi.waitFor(() => expect(page.queue.size).toBe(0), 5000);
});

/** Press a digit, and return the cell that the server has a label of then. */
async function labelByKey(page: Session): Promise<number | undefined> {
  const before = server.saved.length;
  page.labeling.labelSelected(1);
  await vi.waitFor(() => expect(page.queue.size).toBe(0));
  expect(server.saved.length).toBe(before + 1);
  return server.saved[before]?.cell;
}

test("the card goes to the beginning of an order that was asked for, where keys label", async () => {
  const page = await openPage();
  page.moveTo(2);
  page.openCard(2);
  server.order = [5, 4, 3, 2, 1, 0];
  await page.reSort();
  expect([page.card.value, page.currentPosition]).toEqual([5, 0]);
  expect(await labelByKey(page)).toBe(5);
  expect([page.card.value, page.currentPosition]).toEqual([4, 1]);
});

test("keys label the cell of the card, also where the gallery does not show it", async () => {
  server.order = [0, 1, 2, 3];
  const page = await openPage();
  page.moveTo(1);
  page.openCard(5);
  expect(page.currentPosition).toBe(-1);
  expect(await labelByKey(page)).toBe(5);
  expect(page.card.value).toBe(5);
  page.card.value = null;
  expect(await labelByKey(page)).toBe(1);
});

test("an order that arrives leaves the current cell in its place, below the screen too", async () => {
  const page = await openPage();
  page.moveTo(3);
  page.openCard(3);
  page.onView(0, 2, 1);
  server.order = [5, 4, 3, 2, 1, 0];
  await page.refresh();
  await vi.waitFor(() => expect([...page.order.value]).toEqual([0, 1, 2, 3, 5, 4]));
  expect(await labelByKey(page)).toBe(3);
});

test("an order that arrives late leaves the cell in its place that is the current one by then", async () => {
  const page = await openPage();
  page.moveTo(3);
  const respond = server.respond;
  let release = () => {};
  const isReleased = new Promise<void>((resolve) => {
    release = resolve;
  });
  vi.stubGlobal("fetch", async (url: URL, init?: RequestInit) => {
    if (url.pathname.endsWith("/order")) await isReleased;
    return respond(url, init);
  });
  server.order = [5, 4, 3, 2, 1, 0];
  await page.refresh();
  page.moveTo(4);
  release();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(page.currentCell).toBe(4);
});

test("the card follows where a selection is extended", async () => {
  const page = await openPage();
  page.openCard(0);
  page.moveTo(2, true);
  expect([page.card.value, page.currentPosition, page.selectionSize.value]).toEqual([2, 2, 3]);
  page.toggle(4);
  expect([page.card.value, page.currentPosition, page.selectionSize.value]).toEqual([4, 4, 4]);
});

test("an import of a server that was started again has ended", async () => {
  const page = await openPage();
  const job = { id: "import-a-1", kind: "import", state: "queued", progress: null, message: "" } as const;
  const added = page.waitForJob(job);
  await page.refresh();
  await expect(added).rejects.toThrow("add the files again");
});

test("undo takes a label back from whoever gave it, and shows the one before at once", async () => {
  const page = await openPage();
  page.setAnnotator("Ada");
  page.labeling.labelCells([2], 0);
  page.labeling.labelCells([2], 1);
  await vi.waitFor(() => expect(page.queue.size).toBe(0));
  page.setAnnotator("Bo");
  page.labeling.undo();
  expect(page.cells.label(2)).toBe(0);
  page.labeling.redo();
  await vi.waitFor(() => expect(page.queue.size).toBe(0));
  expect(server.saved.slice(2)).toEqual([
    { cell: 2, class: null, undo: true },
    { cell: 2, class: 1 },
  ]);
  expect(new Set(server.annotators)).toEqual(new Set(["Ada"]));
});

test("many cells are labeled while the server is away, and a later label of one of them counts", async () => {
  const page = await openPage();
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  page.labeling.labelAllShown(0);
  page.labeling.labelCells([4], 1);
  expect(page.unsaved.value.n).toBe(7);
  expect(CELLS.map((cell) => page.cells.label(cell))).toEqual([0, 0, 0, 0, 1, 0]);
  vi.stubGlobal("fetch", server.respond);
  await vi.waitFor(() => {
    page.queue.retryNow();
    expect(page.queue.size).toBe(0);
  });
  expect(server.saved).toEqual([...CELLS.map((cell) => ({ cell, class: 0 })), { cell: 4, class: 1 }]);
});
