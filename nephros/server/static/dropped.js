// The files of what was dropped: of a folder those inside it, however deep, of the kinds that are read.
const READ = /\.(png|tiff?|jpe?g|npz)$/i;

export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of entries) if (entry) await walk(entry, found, true);
  return found;
}

async function walk(entry, found, named = false) {
  if (entry.isFile) {
    const gone = () => new File([], entry.name); // it gets a row of its own, which says that nothing is in it
    if (named || READ.test(entry.name)) found.push(await new Promise((take, fail) => entry.file(take, fail)).catch(gone));
    return;
  }
  const reader = entry.createReader();
  for (;;) { // it gives a hundred at a time, and none at the end
    const part = await new Promise((take, fail) => reader.readEntries(take, fail));
    if (!part.length) return;
    for (const one of part) await walk(one, found);
  }
}
