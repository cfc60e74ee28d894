import { afterEach, describe, expect, it, vi } from "vitest";
import { csvField, toCsv } from "../src/classify/csv_table.ts";
import { DEFAULT_QUERY, galleryOrder } from "../src/classify/gallery_query.ts";
import { displayName, type Result, ResultStore } from "../src/classify/result_store.ts";
import { encodeTiff } from "../src/classify/tiff.ts";
import type { Prediction } from "../src/classify/types.ts";
import { STOPPED, UploadQueue } from "../src/classify/upload_queue.ts";
import { adviceInPage } from "../src/shared/advice.ts";
import { takeStacks } from "../src/shared/stack_files.ts";

const prediction = (probabilities: number[], rest: Partial<Prediction> = {}): Prediction => {
  const label = probabilities.indexOf(Math.max(...probabilities));
  return {
    ...{ file: "a.png", index: 0, label, class_name: `class ${label}`, probabilities, is_ood: false, error: null },
    prediction_set: [label],
    ...rest,
  };
};
const failure: Prediction = {
  ...{ file: "b.png", index: 0, label: null, class_name: null, probabilities: null, is_ood: null },
  ...{ prediction_set: null, error: "b.png is damaged." },
};

function storeOf(...predictions: Prediction[]): ResultStore {
  const store = new ResultStore();
  store.add(predictions, 0.9);
  return store;
}

describe("gallery", () => {
  const { results } = storeOf(
    prediction([0.6, 0.4], { prediction_set: [0, 1] }),
    failure,
    prediction([0.1, 0.9], { is_ood: true }),
    prediction([0.8, 0.2]),
  );
  const order = (change: Partial<typeof DEFAULT_QUERY>) => [...galleryOrder(results, { ...DEFAULT_QUERY, ...change })];

  it("shows cells in the order of the files, without errors", () => {
    expect(order({})).toEqual([0, 2, 3]);
    expect(order({ descending: true })).toEqual([3, 2, 0]);
  });

  it("sorts by uncertainty and by the probability of a class", () => {
    expect(order({ sort: "uncertainty" })).toEqual([0, 3, 2]);
    expect(order({ sort: "probability", sortClass: 0 })).toEqual([3, 0, 2]);
    expect(order({ sort: "probability", sortClass: 1 })).toEqual([2, 0, 3]);
  });

  it("keeps what passes all filters", () => {
    expect(order({ filters: ["unsure"] })).toEqual([0]);
    expect(order({ filters: ["ood"] })).toEqual([2]);
    expect(order({ filters: ["ood", "unsure"] })).toEqual([]);
    expect(order({ filterClass: 0 })).toEqual([0, 3]);
  });
});

it("counts cells, errors and classes, and keeps pixels", () => {
  const store = storeOf(prediction([0.1, 0.9], { pixels: btoa("\x00\xff"), is_ood: true }), failure);
  expect([store.nCells, store.nErrors, store.nOod]).toEqual([1, 1, 1]);
  expect(store.countClasses(2)).toEqual([0, 1]);
  expect([...(store.pixels(0) ?? [])]).toEqual([0, 255]);
  expect(store.pixels(1)).toBeNull();
  store.clear();
  expect([store.nCells, store.nErrors, store.nOod, store.errors().length]).toEqual([0, 0, 0, 0]);
});

it("keeps no more images than fit into its memory", () => {
  const store = new ResultStore(5);
  const pixels = btoa("\x01\x02");
  const cells = [1, 2, 3].map((index) => prediction([1], { index, pixels }));
  store.add(cells, 0.9);
  expect([0, 1, 2].map((cell) => store.pixels(cell)?.length ?? null)).toEqual([2, 2, null]);
  store.clear();
  store.add(cells, 0.9);
  expect(store.pixels(1)?.length).toBe(2);
});

it("names cells by what tells them apart", () => {
  const name = (...predictions: Prediction[]) => storeOf(...predictions).results.map(displayName);
  expect(name(prediction([1]))).toEqual(["a.png"]);
  expect(name(prediction([1]), prediction([1], { index: 1 }))).toEqual(["a.png, 0", "a.png, 1"]);
  expect(name(prediction([1], { file: "x.npz", split: "val" }))).toEqual(["x.npz, val, 0"]);
  expect(name(prediction([1], { file: "K4.tif", index: 7, id: 7 }))).toEqual(["K4.tif, nucleus 7"]);
});

it("writes a table that no spreadsheet runs", () => {
  expect(csvField("=cmd|'x',\"")).toBe('"\'=cmd|\'x\',"""');
  expect(["", null, undefined, -1, false].map(csvField)).toEqual(["", "", "", "-1", "false"]);
  const [head, first, second] = toCsv(storeOf(prediction([0.25, 0.75]), failure).results, 2).split("\n");
  expect(head).toBe("file,index,split,label,class_name,p_0,p_1,prediction_set,is_ood,ood_reasons,error");
  expect(first).toBe("a.png,0,,1,class 1,0.25,0.75,1,false,,");
  expect(second).toBe("b.png,0,,,,,,,,,b.png is damaged.");
  const nucleus = toCsv(storeOf(prediction([1], { id: 3, z: 1.5, at_border: true })).results, 1).split("\n");
  expect(nucleus[0]).toMatch(/,error,id,z,y,x,z_um,.*,at_border,intensity_mean$/);
  expect(nucleus[1]).toContain(",3,1.5,");
});

it("replaces parameters of the library by fields of the page", () => {
  const advice =
    "K4.tif doesn't say how large its voxels are; give `voxel_size`, or prepare it with `nephros.prepare()`.";
  expect(adviceInPage(advice)).toBe(
    "K4.tif doesn't say how large its voxels are: enter the voxel size under Options, and upload it again.",
  );
  expect(
    adviceInPage("a.tif has 2 channels by its metadata, which are not cells; set `channel` to the one."),
  ).toContain("enter the channel");
  expect(adviceInPage("a.png is `bad`.")).toBe("a.png is bad.");
});

it("encodes pixels as TIFF", () => {
  const gray = encodeTiff(Uint8Array.of(1, 2, 3, 4, 5, 6), 3, 2, 1);
  expect([...gray.slice(0, 4)]).toEqual([0x49, 0x49, 42, 0]);
  expect([...gray.slice(-6)]).toEqual([1, 2, 3, 4, 5, 6]);
  const color = encodeTiff(new Uint8Array(12).fill(9), 2, 2, 3);
  expect([...color.slice(-18, -12)]).toEqual([8, 0, 8, 0, 8, 0]);
});

const file = (name: string, size = 10) => new File([new Uint8Array(size)], name);
const names = ({ stacks, others }: ReturnType<typeof takeStacks>) => [
  stacks.map(({ stack, mask }) => [stack.name, mask?.name ?? null]),
  others.map(({ name }) => name),
];

describe("stacks among files", () => {
  it.each([
    [["K4.tif", "K4_mask.tif"], [["K4.tif", "K4_mask.tif"]], []],
    [["labels.tif", "stack.ome.tif"], [["stack.ome.tif", "labels.tif"]], []],
    [["K4.czi"], [["K4.czi", null]], []],
    [["a.png", "K4.nd2", "K4_mask.tif"], [["K4.nd2", null]], ["a.png", "K4_mask.tif"]],
    [["a.tif", "b.tif"], [], ["a.tif", "b.tif"]],
    [["mask.tif"], [], ["mask.tif"]],
    [["cell-1.tif", "cell-1_mask.tif", "cell-2.tif", "cell-2_mask.tif"], [], undefined],
  ])("%j", (given, stacks, others) => {
    const result = names(takeStacks(given.map((name) => file(name))));
    expect(result[0]).toEqual(stacks);
    expect(result[1]).toEqual(others ?? given);
  });

  it("pairs several large stacks with their masks by name", () => {
    const files = [file("K4.tif", 2e6), file("K5.ome.tif", 2e6), file("K5_seg.tif"), file("K4_labels.tif")];
    expect(names(takeStacks(files))[0]).toEqual([
      ["K4.tif", "K4_labels.tif"],
      ["K5.ome.tif", "K5_seg.tif"],
    ]);
  });
});

describe("upload queue", () => {
  afterEach(() => vi.unstubAllGlobals());
  const limits = {
    predict: { max_upload_bytes: 1e6 },
    batch: { max_upload_bytes: 1e6 },
    stack: { max_upload_bytes: 1e6 },
  };
  const params = { common: {}, stack: {}, segment: "rough", detailLimit: 7 };

  function queueOf(respond: (url: URL, form: FormData) => Response | Promise<Response>) {
    const results: Result[] = [];
    const urls: string[] = [];
    vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
      urls.push(`${url.pathname} ${[...(init.body as FormData).keys()].join(" ")}`);
      return respond(url, init.body as FormData);
    });
    const queue = new UploadQueue(limits, {
      onResults: (more) => results.push(...(more as Result[])),
      onNotes: () => {},
      onProgress: () => {},
    });
    return { queue, results, urls };
  }

  const respondToAll = (_: URL, form: FormData) =>
    Response.json({ results: form.getAll("files").map((item) => prediction([1], { file: (item as File).name })) });

  it("sends images in groups and every file once", async () => {
    const { queue, results, urls } = queueOf(respondToAll);
    const files = Array.from({ length: 50 }, (_, i) => file(`${i}.png`));
    expect(queue.add(files, params)).toBe(true);
    expect(await queue.run()).toBe(true);
    expect(urls.map((url) => url.split(" ").length - 1)).toEqual([24, 24, 2]);
    expect(results.map((result) => result.file)).toEqual(files.map(({ name }) => name));
  });

  it("sends a file that turns out to be a stack to the route of stacks", async () => {
    const { queue, results, urls } = queueOf((url) =>
      url.pathname.endsWith("stack")
        ? new Response(
            `${JSON.stringify({ stage: "Measuring nuclei", share: 0.5 })}\n${JSON.stringify(prediction([1], { id: 1 }))}\n${JSON.stringify({ done: true, notes: [] })}\n`,
          )
        : Response.json({ results: [{ ...failure, file: "K4.tif", error: "K4.tif is a 3-D stack, not an image." }] }),
    );
    queue.add([file("K4.tif")], params);
    await queue.run();
    expect(urls).toEqual(["/predict files", "/predict/stack stack"]);
    expect(results.map(({ id, error }) => [id, error])).toEqual([[1, null]]);
  });

  it("names what finds the nuclei, but not where a mask says where they are", async () => {
    const queries: string[] = [];
    const { queue } = queueOf((url) => {
      queries.push(url.search);
      return new Response(`${JSON.stringify({ done: true, notes: [] })}\n`);
    });
    for (const segment of ["cellpose", "rough"]) {
      queue.add([file("K4.czi")], { ...params, segment });
      await queue.run();
    }
    queue.add([file("K4.tif"), file("K4_mask.tif")], { ...params, segment: "stardist" });
    await queue.run();
    expect(queries).toEqual(["?detail_limit=7&segment=cellpose", "?detail_limit=7", "?detail_limit=7"]);
  });

  it("sends files with the options of the time when they were added", async () => {
    const queries: string[] = [];
    const coverages: unknown[] = [];
    vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
      if (queries.push(url.search) === 1) queue.add([file("c.png"), file("K4.czi")], later);
      return url.pathname.endsWith("stack")
        ? new Response(`${JSON.stringify(prediction([1]))}\n${JSON.stringify({ done: true, notes: [] })}\n`)
        : respondToAll(url, init.body as FormData);
    });
    const later = { ...params, common: { coverage: "0.8", channel: "DAPI" }, stack: { voxel_size: "1,1,1" } };
    const queue = new UploadQueue(limits, {
      onResults: (results, { common }) => coverages.push(...results.map(() => common.coverage)),
      onNotes: () => {},
      onProgress: () => {},
    });
    queue.add([file("a.png"), file("b.png")], { ...params, common: { coverage: "0.9" } });
    await queue.run();
    expect(queries).toEqual([
      "?coverage=0.9",
      "?coverage=0.8&channel=DAPI",
      "?coverage=0.8&channel=DAPI&voxel_size=1%2C1%2C1&detail_limit=7",
    ]);
    expect(coverages).toEqual(["0.9", "0.9", "0.8", "0.8"]);
  });

  it("reports what a broken stream leaves open", async () => {
    const { queue, results } = queueOf(() => new Response(`${JSON.stringify({ done: false, error: "Too slow." })}\n`));
    queue.add([file("a.npz")], params);
    await queue.run();
    expect(results.map(({ file: name, error }) => [name, error])).toEqual([["a.npz", "a.npz: Too slow."]]);
  });

  it("marks what was not sent when it is stopped, and says nothing when it is cleared", async () => {
    for (const action of ["stop", "clear"] as const) {
      const { queue, results } = queueOf((url, form) => {
        queue[action]();
        return respondToAll(url, form);
      });
      queue.add(
        Array.from({ length: 30 }, (_, i) => file(`${i}.png`)),
        params,
      );
      expect(await queue.run()).toBe(action === "stop");
      expect(results.map(({ error }) => error)).toEqual(action === "stop" ? new Array(30).fill(STOPPED) : []);
      expect(queue.isRunning).toBe(false);
    }
  });

  it("refuses what is larger than the server takes, but a large TIFF file may be a stack", async () => {
    const { queue, results, urls } = queueOf(() => new Response(`${JSON.stringify({ done: true, notes: [] })}\n`));
    limits.stack.max_upload_bytes = 3e6;
    queue.add([file("a.png", 2e6), file("b.npz", 2e6), file("c.tif", 2e6), file("d.czi", 4e6)], params);
    await queue.run();
    expect(urls).toEqual(["/predict/stack stack"]);
    expect(results.map(({ file: name }) => name)).toEqual(["a.png", "b.npz", "d.czi"]);
    for (const { error } of results) expect(error).toContain("upload limit");
  });
});
