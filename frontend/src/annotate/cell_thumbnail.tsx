/** One cell on a canvas of its own, from the images of the gallery. */
import { useEffect, useRef } from "preact/hooks";
import { brighten } from "../grid/brighten.ts";
import { toRgba } from "../grid/image_cache.ts";
import { useSession } from "./session_context.ts";

const SIZE = 64;

export function CellThumbnail({ cell }: { readonly cell: number }) {
  const session = useSession();
  const canvas = useRef<HTMLCanvasElement>(null);
  const version = session.gridVersion.value;
  useEffect(() => {
    const images = session.images.cache;
    if (!images) return;
    const image = images.get(cell);
    if (!image) {
      session.images.addExtra([cell]);
      return;
    }
    const context = canvas.current?.getContext("2d", { willReadFrequently: true });
    const scale = SIZE / Math.max(images.width, images.height);
    const [w, h] = [images.width * scale, images.height * scale];
    if (!context) return;
    const place = [(SIZE - w) / 2, (SIZE - h) / 2, w, h] as const;
    context.drawImage(image.bitmap, 0, image.top, images.width, images.height, ...place);
    if (images.channels === 1) brightenCanvas(context);
  }, [cell, version]);
  return <canvas ref={canvas} width={SIZE} height={SIZE} aria-hidden="true" />;
}

/** As bright as the image of the card beside it. */
function brightenCanvas(context: CanvasRenderingContext2D): void {
  const image = context.getImageData(0, 0, SIZE, SIZE);
  const gray = Uint8Array.from({ length: SIZE * SIZE }, (_, i) => image.data[4 * i] as number);
  const opaque = toRgba(brighten(gray, gray.length), 1);
  for (let i = 3; i < opaque.length; i += 4) opaque[i] = image.data[i] as number;
  context.putImageData(new ImageData(opaque, SIZE, SIZE), 0, 0);
}
