/** Most nuclei use only a fifth of the range of gray levels, and are hardly seen as they are stored. */

/** Share of a cell's pixels that may become white. */
const PERCENTILE = 0.998;

/** Stretch each of several grayscale images of `size` pixels so that its brightest pixels become white; as the server does. */
export function brighten(pixels: Uint8Array, size: number): Uint8Array {
  const result = new Uint8Array(pixels.length);
  for (let start = 0; start < pixels.length; start += size) {
    const cell = pixels.subarray(start, start + size);
    const white = whiteLevel(cell);
    for (let i = 0; i < cell.length; i++)
      result[start + i] = Math.min(255, Math.round((255 * (cell[i] as number)) / white));
  }
  return result;
}

function whiteLevel(pixels: Uint8Array): number {
  const counts = new Uint32Array(256);
  for (const value of pixels) counts[value] = (counts[value] as number) + 1;
  let nAbove = Math.floor((1 - PERCENTILE) * pixels.length);
  for (let level = 255; level > 0; level--) {
    nAbove -= counts[level] as number;
    if (nAbove < 0) return level;
  }
  return 1;
}
