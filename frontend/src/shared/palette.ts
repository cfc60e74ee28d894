/** Colors of classes, the same as CLASS_COLORS of the package (a test compares them): distinct for color-blind people too. */
export const CLASS_COLORS: readonly string[] = [
  "#e69f00",
  "#56b4e9",
  "#009e73",
  "#f0e442",
  "#0072b2",
  "#d55e00",
  "#cc79a7",
  "#99331a",
  "#66ffb3",
  "#cce6ff",
  "#3380ff",
  "#80664d",
];

export const classColor = (index: number): string => CLASS_COLORS[index % CLASS_COLORS.length] as string;
