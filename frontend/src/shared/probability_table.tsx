/** Probabilities per class as bars, the most probable first; the classes of the prediction set are bold. */
import { percent, probabilityText } from "./format.ts";

export interface ProbabilityRow {
  readonly name: string;
  readonly probability: number;
  readonly inSet: boolean;
}

interface Props {
  readonly rows: readonly ProbabilityRow[];
  readonly caption: string;
}

export function ProbabilityTable({ rows, caption }: Props) {
  const sorted = [...rows].sort((a, b) => b.probability - a.probability);
  return (
    <table class="probabilities">
      <caption>{caption}</caption>
      <tbody>
        {sorted.map(({ name, probability, inSet }) => (
          <tr key={name} class={inSet ? "in-set" : ""}>
            <th scope="row">
              {name}
              {inSet && <span class="visually-hidden">, in the prediction set</span>}
            </th>
            <td>
              <span class="bar-track">
                <i style={{ width: percent(probability, 2) }} />
              </span>
            </td>
            <td class="value">{probabilityText(probability)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function setCaption(coverage: number, n: number): string {
  return `Prediction set at ${percent(coverage, 0)} coverage: ${n === 1 ? "1 class" : `${n} classes`} (bold)`;
}
