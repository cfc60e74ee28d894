export const formatCount = (n: number): string => n.toLocaleString("en");
export const percent = (fraction: number, digits = 1): string => `${(100 * fraction).toFixed(digits)}%`;
export const probabilityText = (p: number): string => (p < 0.001 ? "<0.1%" : percent(p));
export const plural = (n: number, noun: string): string => `${formatCount(n)} ${noun}${n === 1 ? "" : "s"}`;
export const classNames = (...names: (string | false | null | undefined)[]): string => names.filter(Boolean).join(" ");
/** A message of the library without the backticks around its parameters, which mean nothing in a page. */
export const plainMessage = (message: string): string => message.replaceAll("`", "");
