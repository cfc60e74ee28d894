/** An image of bytes as a TIFF file, so that the server reads exactly the pixels that the model saw. */

const SHORT = 3;
const LONG = 4;

export function encodeTiff(
  pixels: Uint8Array,
  width: number,
  height: number,
  channels: number,
): Uint8Array<ArrayBuffer> {
  const bits = channels === 1 ? [8] : [8, 8, 8];
  const entries: [tag: number, type: number, count: number, value: number][] = [
    [256, LONG, 1, width],
    [257, LONG, 1, height],
    [258, SHORT, bits.length, 8], // of several samples, the place of their bits
    [259, SHORT, 1, 1],
    [262, SHORT, 1, channels === 1 ? 1 : 2],
    [273, LONG, 1, 0], // the place of the pixels
    [277, SHORT, 1, channels],
    [278, LONG, 1, height],
    [279, LONG, 1, pixels.length],
  ];
  const bitsOffset = 8 + 2 + 12 * entries.length + 4;
  const pixelsOffset = bitsOffset + 2 * bits.length;
  const file = new Uint8Array(pixelsOffset + pixels.length);
  const view = new DataView(file.buffer);
  file.set([0x49, 0x49, 42, 0]);
  view.setUint32(4, 8, true);
  view.setUint16(8, entries.length, true);
  entries.forEach(([tag, type, count, value], i) => {
    const place = 10 + 12 * i;
    view.setUint16(place, tag, true);
    view.setUint16(place + 2, type, true);
    view.setUint32(place + 4, count, true);
    view.setUint32(place + 8, tag === 273 ? pixelsOffset : count > 1 ? bitsOffset : value, true);
  });
  bits.forEach((value, i) => {
    view.setUint16(bitsOffset + 2 * i, value, true);
  });
  file.set(pixels, pixelsOffset);
  return file;
}
