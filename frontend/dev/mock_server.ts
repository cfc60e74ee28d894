/** The routes below `project`, imitated in the memory of the development server: `npm run dev` needs no Python. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Plugin } from "vite";
import { CLASS_COLORS } from "../src/shared/palette.ts";

const N = Number(process.env.MOCK_CELLS ?? 100_000);
const SIZE = 28;
const classes = ["Podocytes", "Proximal tubule", "Leukocytes", "<b>not bold</b>"].map((name, id) => ({
  id,
  name,
  color: CLASS_COLORS[id] as string,
}));
const labels = new Map<number, number>();
const streams = new Set<ServerResponse>();
let revision = 0;

const hash = (value: number) => ((Math.imul(value + 1, 2654435761) >>> 8) % 1000) / 1000;

function image(cell: number): Uint8Array {
  const pixels = new Uint8Array(SIZE * SIZE);
  const radius = 5 + 7 * hash(cell);
  for (let y = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++) {
      const distance = Math.hypot((x - 14) * (0.7 + 0.6 * hash(3 * cell)), y - 14);
      pixels[y * SIZE + x] = Math.max(
        0,
        Math.min(255, 25 * hash(cell * 784 + y * SIZE + x) + 200 * Math.exp(-((distance / radius) ** 4))),
      );
    }
  }
  return pixels;
}

function info(cell: number) {
  const probability = 0.4 + 0.6 * hash(7 * cell);
  const label = labels.get(cell) ?? null;
  return {
    cell,
    label,
    labels_by: label === null ? {} : { mock: label },
    class: cell % classes.length,
    probability,
    set: probability > 0.7 ? [cell % classes.length] : [cell % classes.length, (cell + 1) % classes.length],
    is_ood: cell % 29 === 0,
    is_suspicious: label !== null && cell % 5 === 0,
  };
}

function project() {
  const counts = classes.map(({ id }) => [...labels.values()].filter((label) => label === id).length);
  return {
    id: "mock",
    name: "kidney (mock)",
    revision,
    n_cells: N,
    image: { height: SIZE, width: SIZE, channels: 1 },
    classes: classes.map((item, i) => ({ ...item, n_labels: counts[i] })),
    annotators: [{ name: "mock", n_labels: labels.size }],
    jobs: [],
    has_stack: false,
    segmenters: ["rough"],
    token: "mock",
    model: {
      revision,
      features_done: N,
      n_cells: N,
      n_labels: labels.size,
      state: "ready",
      accuracy: 0.712,
      low: 0.66,
      high: 0.759,
      gain_of_last_40: 0.012,
      error: "",
      n_suspicious: 3,
      recalls: classes.map(({ id }) => ({
        class: id,
        n_labels: counts[id],
        recall: 0.5 + id / 10,
        low: 0.4,
        high: 0.9,
      })),
    },
  };
}

function order(params: URLSearchParams): Buffer {
  let cells = Array.from({ length: N }, (_, cell) => cell);
  if (params.getAll("filter").includes("unlabeled")) cells = cells.filter((cell) => !labels.has(cell));
  if (params.get("sort") === "uncertainty") cells.sort((a, b) => hash(7 * a) - hash(7 * b));
  if (params.get("descending")) cells.reverse();
  return Buffer.from(new Uint32Array(cells).buffer);
}

async function body(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString() || "{}");
}

async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://mock");
  const cells = (url.searchParams.get("cells") ?? "").split(",").map(Number);
  const json = (value: unknown) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));
  const part = url.pathname.replace("/project", "");
  if (part === "/events") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": open\n\n");
    streams.add(response);
    request.on("close", () => streams.delete(response));
  } else if (part === "/labels") {
    for (const { cell, class: id } of (await body(request)).changes as { cell: number; class: number | null }[]) {
      if (id === null) labels.delete(cell);
      else labels.set(cell, id);
    }
    json({ seq: ++revision, revision });
    for (const stream of streams) stream.write(`event: change\ndata: {"revision": ${revision}}\n\n`);
  } else if (part === "/classes") {
    const name = String((await body(request)).name);
    json(classes[classes.push({ id: classes.length, name, color: CLASS_COLORS[classes.length % 12] as string }) - 1]);
  } else if (part === "") json(project());
  else if (part === "/order") response.end(order(url.searchParams));
  else if (part === "/images") response.end(Buffer.concat(cells.map(image)));
  else if (part === "/cells") json(cells.map(info));
  else if (part === "/runs" || part === "/agreement") json([]);
  else if (/^\/cells\/\d+$/.test(part)) {
    const cell = Number(part.slice(7));
    json({
      ...info(cell),
      ood_score: 0.1,
      history: [],
      location: null,
      image: "data:,",
      probabilities: classes.map(({ id }) => ({ class: id, probability: 1 / classes.length })),
      similar: [1, 2, 3, 4, 5].map((step) => ({ cell: (cell + step) % N, similarity: 1 - step / 10, label: null })),
    });
  } else response.writeHead(404).end(JSON.stringify({ error: "The mock has no such route." }));
}

export function mockServer(): Plugin {
  return {
    name: "nephros-mock",
    apply: "serve",
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        if (request.url?.startsWith("/project")) void respond(request, response);
        else next();
      });
    },
  };
}
