/** One cell on a canvas of its own, from the images of the gallery. */
import { useEffect, useRef } from "preact/hooks";
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
    const context = canvas.current?.getContext("2d");
    const scale = SIZE / Math.max(images.width, images.height);
    const [w, h] = [images.width * scale, images.height * scale];
    context?.drawImage(image.bitmap, 0, image.top, images.width, images.height, (SIZE - w) / 2, (SIZE - h) / 2, w, h);
  }, [cell, version]);
  return <canvas ref={canvas} width={SIZE} height={SIZE} aria-hidden="true" />;
}
