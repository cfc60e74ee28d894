/** Draws one cell of a grid: its image, a frame in the color of its label, and the prediction as a bar below. */
import type { CellPicture, ImageSize } from "./image_cache.ts";

export interface TileMarks {
  /** Color of the label; null frames nothing. */
  readonly frame: string | null;
  /** Color of the predicted class, and how long its bar is, from 0 to 1. */
  readonly bar: string | null;
  readonly barLength: number;
  readonly isSelected?: boolean;
  readonly isOod?: boolean;
  readonly isSuspicious?: boolean;
  /** The label is not on the server's disk yet. */
  readonly isUnsaved?: boolean;
}

export interface TileTheme {
  readonly selection: string;
  readonly placeholder: string;
  readonly warning: string;
}

const FRAME = 4;
const BAR = 4;

export function paintTile(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  size: number,
  picture: CellPicture | undefined,
  imageSize: ImageSize,
  marks: TileMarks,
  theme: TileTheme,
): void {
  if (marks.isSelected) {
    context.fillStyle = theme.selection;
    context.fillRect(x - 3, y - 3, size + 6, size + 6);
  }
  context.fillStyle = picture ? "#000" : theme.placeholder;
  context.fillRect(x, y, size, size);
  if (picture) paintPicture(context, x, y, size, picture, imageSize);
  const inset = marks.frame ? FRAME : 0; // within the frame, which would hide it
  if (marks.bar) paintBar(context, x + inset, y + size - inset - BAR, size - 2 * inset, marks.bar, marks.barLength);
  if (marks.frame) {
    context.strokeStyle = marks.frame;
    context.lineWidth = FRAME;
    context.strokeRect(x + FRAME / 2, y + FRAME / 2, size - FRAME, size - FRAME);
  }
  if (marks.isOod) paintBadge(context, x + size - 9, y + 9, "#f0985a", "diamond");
  if (marks.isSuspicious) paintBadge(context, x + size - 9, y + (marks.isOod ? 24 : 9), "#ff8fa8", "mark");
  if (marks.isUnsaved) paintBadge(context, x + 9, y + 9, "#fff", "ring");
}

function paintPicture(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  size: number,
  picture: CellPicture,
  { width, height }: ImageSize,
): void {
  const scale = size / Math.max(width, height);
  const w = width * scale;
  const h = height * scale;
  context.drawImage(picture.bitmap, 0, picture.top, width, height, x + (size - w) / 2, y + (size - h) / 2, w, h);
}

function paintBar(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  width: number,
  color: string,
  share: number,
): void {
  context.fillStyle = "rgb(0 0 0 / 0.55)";
  context.fillRect(x, y, width, BAR);
  context.fillStyle = color;
  context.fillRect(x, y, width * share, BAR);
}

function paintBadge(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  color: string,
  shape: "diamond" | "mark" | "ring",
): void {
  context.beginPath();
  if (shape === "diamond") {
    for (const [dx, dy] of [
      [0, -6],
      [6, 0],
      [0, 6],
      [-6, 0],
    ] as const)
      context.lineTo(x + dx, y + dy);
    context.closePath();
  } else {
    context.arc(x, y, shape === "ring" ? 4 : 6, 0, 2 * Math.PI);
  }
  context.lineWidth = 2;
  context.strokeStyle = shape === "ring" ? color : "#000";
  context.stroke();
  if (shape === "ring") return;
  context.fillStyle = color;
  context.fill();
  if (shape === "mark") {
    context.fillStyle = "#000";
    context.font = "bold 10px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText("?", x, y + 0.5);
  }
}
