/** Collects dropped files, and the readable files of dropped folders at any depth. */
import { plural } from "./format.ts";
import { isReadable, READABLE_SUFFIXES } from "./stack_files.ts";

export interface DroppedFiles {
  readonly files: File[];
  /** What dropped folders have that can't be read; empty where that is nothing. */
  readonly note: string;
}

interface Found {
  readonly files: File[];
  nLeftOut: number;
  hasZarrFolder: boolean;
}

export async function droppedFiles(transfer: DataTransfer): Promise<DroppedFiles> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return { files: [...transfer.files], note: "" };
  const found: Found = { files: [], nLeftOut: 0, hasZarrFolder: false };
  for (const entry of entries) if (entry) await collectFiles(entry, found, true);
  return { files: found.files, note: noteOf(found) };
}

async function collectFiles(entry: FileSystemEntry, found: Found, isDropped = false): Promise<void> {
  if (!isDropped && entry.name.startsWith(".")) return; // hidden files are skipped without a word, as in the command line
  if (entry.isFile) {
    if (!isDropped && !isReadable(entry.name)) {
      found.nLeftOut++;
      return;
    }
    const emptyFile = () => new File([], entry.name); // a file that can't be read gets its own row, with an error
    const file = new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.files.push(await file.catch(emptyFile));
    return;
  }
  if (entry.name.toLowerCase().endsWith(".zarr")) {
    found.hasZarrFolder = true; // one stack in thousands of files, which are nothing by themselves
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // Returns at most 100 entries per call, and none at the end.
    const children = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!children.length) return;
    for (const child of children) await collectFiles(child, found);
  }
}

function noteOf({ files, nLeftOut, hasZarrFolder }: Found): string {
  const sentences: string[] = [];
  if (hasZarrFolder) sentences.push("Zip an OME-Zarr folder to upload it.");
  if (files.length === 0)
    sentences.push(`No file here can be read: their names end in ${READABLE_SUFFIXES.join(", ")}.`);
  else if (nLeftOut > 0) sentences.push(`${plural(nLeftOut, "file")} of other kinds left out.`);
  return sentences.join(" ");
}

/** The files that were chosen in a field, which is emptied: choosing the same ones again is a change, too. */
export function takeFiles(field: HTMLInputElement): File[] {
  const files = [...(field.files ?? [])];
  field.value = "";
  return files;
}
