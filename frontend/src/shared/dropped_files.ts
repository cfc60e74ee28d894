/** Collects dropped files, and the readable files of dropped folders at any depth. */
const READABLE_SUFFIX = /\.(png|tiff?|jpe?g|npz)$/i;

export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const files: File[] = [];
  for (const entry of entries) if (entry) await collectFiles(entry, files, true);
  return files;
}

async function collectFiles(entry: FileSystemEntry, files: File[], isDropped = false): Promise<void> {
  if (entry.isFile) {
    if (!isDropped && !READABLE_SUFFIX.test(entry.name)) return;
    const emptyFile = () => new File([], entry.name); // a file that can't be read gets its own row, with an error
    const file = new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    files.push(await file.catch(emptyFile));
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // Returns at most 100 entries per call, and none at the end.
    const children = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!children.length) return;
    for (const child of children) await collectFiles(child, files);
  }
}

/** The files that were chosen in a field, which is emptied: choosing the same ones again is a change, too. */
export function takeFiles(field: HTMLInputElement): File[] {
  const files = [...(field.files ?? [])];
  field.value = "";
  return files;
}
