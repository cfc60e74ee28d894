import { afterEach, expect, test } from "vitest";
import { Session } from "../src/annotate/session.ts";
import { browserStorage } from "../src/shared/browser_storage.ts";

const names = ["localStorage", "sessionStorage"] as const;
const original = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));

afterEach(() => {
  names.forEach((name, i) => {
    const descriptor = original[i];
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else Reflect.deleteProperty(globalThis, name);
  });
});

function blockSiteData(): void {
  const get = () => {
    throw new DOMException("Access is denied for this document.", "SecurityError");
  };
  for (const name of names) Object.defineProperty(globalThis, name, { get, configurable: true });
}

test("storage is the browser's", () => {
  browserStorage("sessionStorage").setItem("key", "value");
  expect(sessionStorage.getItem("key")).toBe("value");
  sessionStorage.clear();
});

test("the page opens where the browser blocks site data, and keeps a name as long as it is open", () => {
  blockSiteData();
  const session = new Session();
  session.setAnnotator("Ada");
  expect(session.annotatorName).toBe("Ada");
  expect(session.queue.size).toBe(0);
});
