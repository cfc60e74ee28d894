/** Which files the server reads, and which of them are stacks of slices and their masks, by their names. */

const MASK_NAME = /(^|[^a-z])(masks?|labels?|seg(mentation)?)([^a-z]|$)/i;
const TIFF_SUFFIXES = [".tif", ".tiff"];
const STACK_SUFFIXES = [".npy", ".zip", ".czi", ".nd2", ".lif", ".ims"];
export const READABLE_SUFFIXES: readonly string[] = [
  ".png",
  ".jpg",
  ".jpeg",
  ...TIFF_SUFFIXES,
  ".npz",
  ...STACK_SUFFIXES,
];
/** Bytes from which a TIFF file beside a mask is a stack, among many files: images of single cells may have masks too. */
const MIN_STACK_BYTES = 1e6;

const isMaskName = (name: string): boolean => MASK_NAME.test(name);
const hasSuffix = (name: string, suffixes: readonly string[]): boolean =>
  suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
export const isReadable = (name: string): boolean => hasSuffix(name, READABLE_SUFFIXES);

/** The mask among a stack and its mask. */
export function maskOf(files: readonly File[]): File | undefined {
  const masks = files.filter(({ name }) => isMaskName(name));
  return files.length === 2 && masks.length === 1 ? masks[0] : undefined;
}

export interface StackFiles {
  readonly stack: File;
  readonly mask: File | null;
}

/** Take the stacks out of files: those of a format that only stacks have, and TIFF files that have a mask beside them. */
export function takeStacks(files: readonly File[]): { stacks: StackFiles[]; others: File[] } {
  const canBeStack = ({ name }: File) => hasSuffix(name, [...TIFF_SUFFIXES, ...STACK_SUFFIXES]) && !isMaskName(name);
  const candidates = files.filter(canBeStack);
  const masks = new Map<File, File>();
  const pair = candidates.length === 1 ? maskOf(files) : undefined;
  if (pair) masks.set(candidates[0] as File, pair);
  else {
    for (const mask of files.filter(({ name }) => isMaskName(name))) {
      const owner = candidates.find(
        (stack) => !masks.has(stack) && stack.size >= MIN_STACK_BYTES && mask.name.startsWith(stem(stack.name)),
      );
      if (owner) masks.set(owner, mask);
    }
  }
  const stacks = candidates
    .filter((file) => masks.has(file) || hasSuffix(file.name, STACK_SUFFIXES))
    .map((stack) => ({ stack, mask: masks.get(stack) ?? null }));
  const taken = new Set(stacks.flatMap(({ stack, mask }) => (mask ? [stack, mask] : [stack])));
  return { stacks, others: files.filter((file) => !taken.has(file)) };
}

const stem = (name: string): string => name.replace(/(\.ome)?\.[^.]*$/i, "");
