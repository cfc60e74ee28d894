/** `localStorage` or `sessionStorage`; where the browser blocks site data, so that naming them throws, one that keeps nothing. */
export type KeyValueStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

const KEEPS_NOTHING: KeyValueStorage = { getItem: () => null, setItem() {}, removeItem() {} };

export function browserStorage(name: "localStorage" | "sessionStorage"): KeyValueStorage {
  try {
    return globalThis[name];
  } catch {
    return KEEPS_NOTHING;
  }
}
