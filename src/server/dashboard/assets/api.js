// The way to the API: requests, their errors, and the session. Everything goes to the server that the page came from.

/** What the server said no with. */
export class Refused extends Error {
  constructor(code, message, status) {
    super(message);
    this.code = code;
    /** The causes of a Status, each with its field. */
    this.causes = status?.details?.causes ?? [];
  }
}

/** What may be sent twice: a browser drops requests when the machine's network changes, as it does with every container. */
const REPEATABLE = ["GET", "PUT", "PATCH"];
const TRIES = 5;
const PAUSE_MS = 120;

async function send(path, options) {
  for (let n = 1; ; n++) {
    try {
      return await fetch(path, options);
    } catch (err) {
      if (err.name === "AbortError" || n === TRIES || !REPEATABLE.includes(options.method)) throw err;
      await new Promise((wake) => setTimeout(wake, n * PAUSE_MS));
    }
  }
}

/** Sends a request; a body that is no text is sent as JSON. Gives the response, or throws what the server says. */
export async function ask(method, path, { body, type, accept, signal } = {}) {
  const headers = { "X-Skiff-Dashboard": "1", Accept: accept ?? "application/json" };
  if (body !== undefined) headers["Content-Type"] = type ?? "application/json";
  const sent = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  let response;
  try {
    response = await send(path, { method, headers, body: sent, signal, credentials: "same-origin" });
  } catch (err) {
    if (err.name === "AbortError") throw err;
    throw new Refused(0, "skiff does not answer: is it running?");
  }
  if (response.ok) return response;
  const text = await response.text();
  let status;
  try {
    status = JSON.parse(text);
  } catch {
    status = { message: text.trim() || response.statusText };
  }
  throw new Refused(response.status, status.message ?? text, status);
}

export const getJson = async (path, options) => (await ask("GET", path, options)).json();
export const getText = async (path, options) => (await ask("GET", path, options)).text();

/** A WebSocket to a path of the API. */
export function socket(path, protocols) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(url, protocols);
}

/** Takes the link's token out of the address line and makes a session of it; gives what is known of the session, or null. */
export async function signIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname);
    try {
      return await (await ask("POST", "session", { body: token, type: "text/plain" })).json();
    } catch (err) {
      if (err.code !== 401) throw err;
    }
  }
  try {
    return await getJson("session");
  } catch (err) {
    if (err.code === 401) return null;
    throw err;
  }
}

/** The path of a collection or an object. */
export function pathOf(kind, namespace, name, part) {
  const root = kind.group ? `/apis/${kind.group}/${kind.version}` : `/api/${kind.version}`;
  const place = namespace ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  const tail = [name && encodeURIComponent(name), part].filter(Boolean);
  return [root + place, kind.plural, ...tail].join("/");
}
