// Collects dropped files, and the readable files of dropped folders at any depth.
const READABLE_SUFFIX = /\.(png|tiff?|jpe?g|npz)$/i;

export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const files = [];
  for (const entry of entries) if (entry) await collectFiles(entry, files, true);
  return files;
}

async function collectFiles(entry, files, dropped = false) {
  if (entry.isFile) {
    const emptyFile = () => new File([], entry.name); // a file that can't be read gets its own row, with an error
    if (dropped || READABLE_SUFFIX.test(entry.name)) files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(emptyFile));
    return;
  }
  const reader = entry.createReader();
  for (;;) { // returns at most 100 entries per call, and none at the end
    const children = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!children.length) return;
    for (const child of children) await collectFiles(child, files);
  }
}
