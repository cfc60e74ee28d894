import { expect, it } from "vitest";
import { droppedFiles } from "../src/shared/dropped_files.ts";

type Tree = string | { readonly name: string; readonly children: readonly Tree[] };

const folder = (name: string, ...children: Tree[]): Tree => ({ name, children });

function entryOf(tree: Tree): unknown {
  if (typeof tree === "string") {
    return { name: tree, isFile: true, file: (resolve: (file: File) => void) => resolve(new File(["x"], tree)) };
  }
  const batches = [tree.children.map(entryOf), []];
  const readEntries = (resolve: (entries: unknown) => void) => resolve(batches.shift());
  return { name: tree.name, isDirectory: true, createReader: () => ({ readEntries }) };
}

async function drop(...trees: Tree[]) {
  const items = trees.map((tree) => ({ webkitGetAsEntry: () => entryOf(tree) }));
  const files = trees.filter((tree) => typeof tree === "string").map((name) => new File(["x"], name));
  const dropped = await droppedFiles({ items, files } as unknown as DataTransfer);
  return { names: dropped.files.map(({ name }) => name), note: dropped.note };
}

it("takes the stacks of a folder, and all formats that the file field does", async () => {
  const names = ["K4.czi", "K5.ND2", "K6.lif", "K7.ims", "K8.npy", "K9.zip", "K4_mask.tif", "a.jpeg", "b.npz"];
  expect(await drop(folder("stacks", ...names.slice(0, 4), folder("more", ...names.slice(4))))).toEqual({
    names,
    note: "",
  });
});

it("says how many files of a folder are left out, but for hidden ones", async () => {
  const children = [
    "K4.czi",
    "notes.docx",
    ".DS_Store",
    folder(".cache", "a.png"),
    folder("b", "Thumbs.db", "._K4.czi"),
  ];
  expect(await drop(folder("stacks", ...children))).toEqual({
    names: ["K4.czi"],
    note: "2 files of other kinds left out.",
  });
});

it.each([[["notes.docx"]], [[]]])("says that nothing in a folder can be read: %j", async (children) => {
  const { names, note } = await drop(folder("texts", ...children));
  expect(names).toEqual([]);
  expect(note).toMatch(/^No file here can be read: their names end in \.png, .*, \.czi, .*\.$/);
});

it("asks for a zip file of an OME-Zarr folder, whose files are no images by themselves", async () => {
  const zarr = folder("K4.ome.zarr", "zarr.json", folder("0", "0", "1.png"));
  expect(await drop("a.png", zarr)).toEqual({ names: ["a.png"], note: "Zip an OME-Zarr folder to upload it." });
  expect((await drop(zarr)).note).toMatch(/^Zip an OME-Zarr folder to upload it\. No file here can be read/);
});

it("takes files that are dropped by themselves whatever they are called", async () => {
  expect(await drop("K4.xyz", ".hidden")).toEqual({ names: ["K4.xyz", ".hidden"], note: "" });
});
