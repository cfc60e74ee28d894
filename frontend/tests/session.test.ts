import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Session } from "../src/annotate/session.ts";
import { CLASS_COLORS } from "../src/shared/palette.ts";

const N = 6;

/** A server of one project at a time, as far as the page asks it. */
class FakeServer {
  project = "kidney";
  readonly saved: unknown[] = [];

  readonly respond = async (url: URL, init: RequestInit = {}): Promise<Response> => {
    const expected = new Headers(init.headers).get("X-Nephros-Project");
    if (expected !== null && expected !== this.project) return Response.json({ error: "Reload." }, { status: 412 });
    const route = url.pathname.replace(/^.*\/project/, "");
    if (route === "") return Response.json(this.#describe());
    if (route === "/order") return new Response(Uint32Array.from({ length: N }, (_, cell) => cell).buffer);
    if (route === "/labels") this.saved.push(...JSON.parse(init.body as string).changes);
    return Response.json([]);
  };

  #describe() {
    const classes = ["tubule", "glomerulus"].map((name, id) => ({ id, name, color: CLASS_COLORS[id], n_labels: 0 }));
    const image = { height: 2, width: 2, channels: 1 };
    return { id: this.project, token: this.project, name: this.project, n_cells: N, image, classes, jobs: [] };
  }
}

/** The session of a page that was just loaded: modules keep nothing of the page before. */
async function openPage(): Promise<Session> {
  vi.resetModules();
  const page = await import("../src/annotate/session.ts");
  const session = new page.Session();
  await session.refresh();
  await vi.waitFor(() => expect(session.isOrderLoaded.value).toBe(true));
  return session;
}

let server: FakeServer;

beforeEach(() => {
  sessionStorage.clear();
  server = new FakeServer();
  vi.stubGlobal("fetch", (url: URL, init?: RequestInit) => server.respond(url, init));
});

afterEach(() => vi.restoreAllMocks());

test("a page whose server was started with another project starts anew, and keeps its labels for their own project", async () => {
  const reload = vi.spyOn(location, "reload").mockImplementation(() => {});
  const page = await openPage();
  server.project = "liver";
  await page.labeling.labelCells([3], 1);
  await page.refresh();
  expect(reload).toHaveBeenCalledOnce();
  expect(page.project.value?.name).toBe("kidney");
  const ofLiver = await openPage();
  expect([ofLiver.project.value?.name, ofLiver.queue.size]).toEqual(["liver", 0]);
  expect(server.saved).toEqual([]);
  server.project = "kidney";
  await openPage();
  await vi.waitFor(() => expect(server.saved).toContainEqual({ cell: 3, class: 1 }));
});
