/** The server's events, connected again whenever the connection ends: the server may be restarted at any time. */
import { routeUrl } from "../shared/api.ts";
import type { Job } from "./types.ts";

export interface EventHandlers {
  /** Connected, for the first time or again: anything may have changed. */
  readonly onConnect: () => void;
  readonly onDisconnect: () => void;
  readonly onChange: () => void;
  readonly onJob: (job: Job) => void;
}

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 5000;

export function listen(handlers: EventHandlers): () => void {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout>;
  let delayMs = FIRST_DELAY_MS;

  const connect = () => {
    source = new EventSource(routeUrl("project/events"));
    source.onopen = () => {
      delayMs = FIRST_DELAY_MS;
      handlers.onConnect();
    };
    source.addEventListener("change", () => handlers.onChange());
    source.addEventListener("job", (event) => handlers.onJob(JSON.parse(event.data)));
    source.onerror = () => {
      source?.close();
      handlers.onDisconnect();
      timer = setTimeout(connect, delayMs);
      delayMs = Math.min(LONGEST_DELAY_MS, 2 * delayMs);
    };
  };
  connect();
  return () => {
    clearTimeout(timer);
    source?.close();
  };
}
