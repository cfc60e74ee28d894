/** A choice of one class, or of none. */

interface Props {
  readonly classes: readonly { readonly id: number; readonly name: string }[];
  readonly value: number | null;
  readonly onChange: (id: number | null) => void;
  /** Text of the choice of no class; without it a class has to be chosen. */
  readonly none?: string;
  readonly id?: string;
}

export function ClassSelect({ classes, value, onChange, none, id }: Props) {
  return (
    <select
      id={id}
      value={value ?? ""}
      onChange={(event) => {
        const { value: chosen } = event.currentTarget;
        onChange(chosen === "" ? null : Number(chosen));
      }}
    >
      {none !== undefined && <option value="">{none}</option>}
      {classes.map((item) => (
        <option key={item.id} value={item.id}>
          {item.name}
        </option>
      ))}
    </select>
  );
}
