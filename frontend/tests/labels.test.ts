import { beforeEach, describe, expect, it, vi } from "vitest";
import { CellStore } from "../src/annotate/cell_store.ts";
import { reportText } from "../src/annotate/files_dialog.tsx";
import { LabelQueue, MAX_CHANGES_PER_REQUEST, type QueueOptions } from "../src/annotate/label_queue.ts";
import type { CellInfo, LabelChange } from "../src/annotate/types.ts";
import { UndoHistory } from "../src/annotate/undo_history.ts";
import { RequestError } from "../src/shared/api.ts";

function makeQueue(send: QueueOptions["send"], onRejected = vi.fn()) {
  const options = { send, onRejected, onChange: vi.fn(), storage: sessionStorage, wait: () => Promise.resolve() };
  const queue = new LabelQueue(options);
  queue.open("unsaved");
  return queue;
}

beforeEach(() => sessionStorage.clear());

describe("LabelQueue", () => {
  it("shows a label as unsaved until the server has it", async () => {
    let finish = () => {};
    const queue = makeQueue(() => new Promise((resolve) => (finish = resolve)));
    queue.push("ann", [{ cell: 3, class: 1 }]);
    expect([queue.unsavedLabel(3), queue.unsavedLabel(4)]).toEqual([1, undefined]);
    finish();
    await vi.waitFor(() => expect(queue.size).toBe(0));
    expect(queue.unsavedLabel(3)).toBe(undefined);
    expect(sessionStorage.getItem("unsaved")).toBe(null);
  });

  it.each([0, 507, 503, 500, 409, 408, 401])(
    "tries again after status %i, in order and without loss",
    async (status) => {
      const saved: LabelChange[] = [];
      let nFailures = 3;
      const queue = makeQueue(async (_, changes) => {
        if (nFailures-- > 0) throw new RequestError("gone", status);
        saved.push(...changes);
      });
      for (let cell = 0; cell < 5; cell++) queue.push("ann", [{ cell, class: cell }]);
      await vi.waitFor(() => expect(queue.size).toBe(0));
      expect(saved.map(({ cell }) => cell)).toEqual([0, 1, 2, 3, 4]);
    },
  );

  it("says why the server can't save, until it can", async () => {
    let status = 507;
    const wait = vi.fn(async () => {
      status = status === 507 ? 0 : 200;
    });
    const send = async () => {
      if (status !== 200) throw new RequestError("The disk is full.", status);
    };
    const problems: string[] = [];
    const onChange = () => problems.push(queue.problem);
    const queue = new LabelQueue({
      send,
      wait,
      onChange,
      onRejected: vi.fn(),
      storage: sessionStorage,
    });
    queue.push("ann", [{ cell: 1, class: 0 }]);
    await vi.waitFor(() => expect(queue.size).toBe(0));
    expect(problems).toEqual(["", "The disk is full.", "", ""]);
  });

  it("gives up what the server refuses for good, and says so", async () => {
    const onRejected = vi.fn();
    const queue = makeQueue(() => Promise.reject(new RequestError("no such class", 422)), onRejected);
    queue.push("ann", [{ cell: 1, class: 9 }]);
    const refused = [{ cell: 1, class: 9, annotator: "ann" }];
    await vi.waitFor(() => expect(onRejected).toHaveBeenCalledWith(refused, "no such class"));
    expect(queue.size).toBe(0);
  });

  it("never names a cell twice in a request, nor two annotators, nor too many cells", async () => {
    const requests: [string, number][] = [];
    const queue = makeQueue(async (annotator, changes) => void requests.push([annotator, changes.length]));
    queue.push("first", [{ cell: 100_000, class: 0 }]);
    queue.push(
      "ann",
      [1, 2, 1].map((cell) => ({ cell, class: 0 })),
    );
    queue.push(
      "bob",
      Array.from({ length: MAX_CHANGES_PER_REQUEST + 1 }, (_, cell) => ({ cell, class: 1 })),
    );
    await vi.waitFor(() => expect(queue.size).toBe(0));
    expect(requests).toEqual([
      ["first", 1],
      ["ann", 2],
      ["ann", 1],
      ["bob", MAX_CHANGES_PER_REQUEST],
      ["bob", 1],
    ]);
  });

  it("survives a reload", async () => {
    makeQueue(() => new Promise(() => {})).push("ann", [{ cell: 7, class: 2 }]);
    const sent: LabelChange[] = [];
    const reloaded = makeQueue(async (_, changes) => void sent.push(...changes));
    expect(reloaded.unsavedLabel(7)).toBe(2);
    await reloaded.flush();
    expect(sent).toEqual([{ cell: 7, class: 2 }]);
  });

  it("stores many changes only when the page is left", async () => {
    const setItem = vi.spyOn(Storage.prototype, "setItem");
    const changes = Array.from({ length: 2000 }, (_, cell) => ({ cell, class: 1 }));
    const queue = makeQueue(() => new Promise(() => {}));
    queue.push("ann", changes);
    expect(setItem).not.toHaveBeenCalled();
    queue.storeAll();
    const sent: LabelChange[] = [];
    await makeQueue(async (_, batch) => void sent.push(...batch)).flush();
    expect(sent).toEqual(changes);
    setItem.mockRestore();
  });

  it.each(["{", "7", '[{"cell": "x"}]', "[null]"])("ignores a damaged memory: %s", (text) => {
    sessionStorage.setItem("unsaved", text);
    expect(makeQueue(() => Promise.resolve()).size).toBe(0);
  });
});

it("does not let an old response take back a label that was saved meanwhile", async () => {
  const info = (label: number | null): CellInfo => ({
    ...{ cell: 5, label, labels_by: {}, class: null, probability: null, set: [] },
    ...{ is_ood: false, is_suspicious: false },
  });
  let respond: (cells: CellInfo[]) => void = () => {};
  const load = vi.fn(() => new Promise<CellInfo[]>((resolve) => (respond = resolve)));
  const store = new CellStore({ load, onLoad() {}, unsavedLabel: () => undefined });
  store.want([5]);
  respond([info(null)]);
  await vi.waitFor(() => expect(store.get(5)).toBeDefined());
  store.markStale();
  store.want([5]);
  await vi.waitFor(() => expect(load).toHaveBeenCalledTimes(2));
  store.confirm("ann", [{ cell: 5, class: 3 }]);
  respond([info(null)]);
  await vi.waitFor(() => expect(load).toHaveBeenCalledTimes(3));
  expect(store.label(5)).toBe(3);
});

it("undoes and repeats steps, and forgets the undone ones after a new one", () => {
  const history = new UndoHistory();
  const annotator = "ann";
  history.record({ annotator, cells: [{ cell: 1, before: null, after: 2 }] });
  history.record({ annotator, cells: [{ cell: 1, before: 2, after: 3 }] });
  expect(history.undo()).toEqual({ annotator, changes: [{ cell: 1, class: 2, undo: true }] });
  expect(history.redo()).toEqual({ annotator, changes: [{ cell: 1, class: 3 }] });
  expect(history.undo()).toEqual({ annotator, changes: [{ cell: 1, class: 2, undo: true }] });
  history.record({ annotator, cells: [{ cell: 9, before: null, after: 0 }] });
  expect(history.redo()).toBe(null);
});

describe("reportText", () => {
  it("says whose labels could not be set, and of which classes there were none before", () => {
    const report = { n_labels: 1500, n_unchanged: 0, n_missing: 1, new_classes: ["rund", "other"], notes: ["A note."] };
    expect(reportText(report)).toBe(
      "1,500 labels set; 1 of cells that the project doesn't have; new classes: rund, other. A note.",
    );
    expect(reportText({ ...report, n_labels: 1, n_unchanged: 3, n_missing: 0, new_classes: [], notes: [] })).toBe(
      "1 label set; 3 as they were.",
    );
  });
});
