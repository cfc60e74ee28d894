/** Requests to the server. Routes are beside this script, so that they are found below a reverse proxy's path prefix too. */

import { plainMessage } from "./format.ts";

const BASE = import.meta.env.DEV ? new URL("/", document.baseURI).href : import.meta.url;
const MAX_ATTEMPTS = 6;

export const routeUrl = (route: string): URL => new URL(route, BASE);

/** A response with an error status; `status` is 0 if the request did not reach the server. */
export class RequestError extends Error {
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may succeed later: the server is restarting, busy, has another token or serves another project
   * since its last start. */
  get isTemporary(): boolean {
    return [0, 401, 408, 412, 429].includes(this.status) || this.status >= 500;
  }
}

export async function request(route: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(routeUrl(route), init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new RequestError("The server can't be reached.", 0);
  }
  if (response.ok) return response;
  throw new RequestError(await errorMessage(response), response.status);
}

export async function getJson<T>(route: string, signal?: AbortSignal): Promise<T> {
  return (await request(route, signal ? { signal } : {})).json();
}

export async function errorMessage(response: Response): Promise<string> {
  const fallback = `The server responded with status ${response.status}.`;
  return response
    .json()
    .then((body: { error?: string }) => plainMessage(body.error ?? fallback))
    .catch(() => fallback);
}

/** Upload files, trying again while the server is busy. When `signal` aborts, its own error is thrown. */
export async function postFiles(
  route: string,
  form: () => FormData,
  signal: AbortSignal,
  headers: Record<string, string> = {},
): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let response: Response;
    try {
      response = await fetch(routeUrl(route), { method: "POST", body: form(), signal, headers });
    } catch (error) {
      if (signal.aborted) throw error;
      throw new RequestError(
        "The server or the file is no longer available. Check that the server is running and that the file still exists.",
        0,
      );
    }
    if (response.ok) return response;
    const message = await errorMessage(response);
    if (response.status !== 503 || attempt === MAX_ATTEMPTS) throw new RequestError(message, response.status);
    await delay(400 * 2 ** attempt, signal);
  }
}

export function delay(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
