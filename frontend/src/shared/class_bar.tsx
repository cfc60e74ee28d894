/** How many cells each class has, as one bar of colored parts. */
import { formatCount, percent } from "./format.ts";

export interface ClassCount {
  readonly name: string;
  readonly color: string;
  readonly n: number;
}

export function ClassBar({ counts, label }: { readonly counts: readonly ClassCount[]; readonly label: string }) {
  const total = counts.reduce((sum, { n }) => sum + n, 0);
  const text = counts.map(({ name, n }) => `${name}: ${formatCount(n)} (${percent(n / Math.max(1, total), 0)})`);
  return (
    <div class="class-bar" role="img" aria-label={`${label}: ${text.join(", ")}`}>
      {counts.map(({ name, color, n }, i) => (
        <i key={name} title={text[i]} style={{ flexGrow: n, background: color }} />
      ))}
    </div>
  );
}
