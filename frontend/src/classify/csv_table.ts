/** All results as a table, with the columns of the command `nephros predict`. */
import type { Result } from "./result_store.ts";

const POSITION_COLUMNS = [
  "id",
  "z",
  "y",
  "x",
  "z_um",
  "y_um",
  "x_um",
  "volume_voxels",
  "volume_um3",
  "at_border",
  "intensity_mean",
] as const;

type Value = string | number | boolean | null | undefined;

export function toCsv(results: readonly Result[], nClasses: number): string {
  const classes = Array.from({ length: nClasses }, (_, c) => c);
  const positions = results.some(({ id }) => id !== undefined) ? POSITION_COLUMNS : [];
  const lines: Value[][] = [
    [
      ...["file", "index", "split", "label", "class_name"],
      ...classes.map((c) => `p_${c}`),
      ...["prediction_set", "is_ood", "ood_reasons", "error"],
      ...positions,
    ],
  ];
  for (const result of results) {
    lines.push([
      ...[result.file, result.index, result.split, result.label, result.class_name],
      ...classes.map((c) => result.probabilities?.[c]),
      result.prediction_set?.join(" "),
      result.is_ood,
      result.ood_reasons?.join("; "),
      result.error,
      ...positions.map((name) => result[name]),
    ]);
  }
  return `${lines.map((line) => line.map(csvField).join(",")).join("\n")}\n`;
}

export function csvField(value: Value): string {
  if (value === null || value === undefined) return "";
  let text = String(value);
  // As nephros/escaping.py does it; otherwise a spreadsheet would run the text as a formula.
  if (typeof value === "string") text = text.replace(/(^|[;\t\r\n])(\s*'*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'$2");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
