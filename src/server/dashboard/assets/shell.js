// A command in a container on a terminal, a shell by default. `terminal.html` paints it, in a frame; the connection is here.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { getText, pathOf, socket } from "./api.js";
import { KINDS } from "./cluster.js";

const PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const [STDIN, STDOUT, STDERR, ERROR, RESIZE] = [0, 1, 2, 3, 4];

/** The words of a command, as a shell reads simple ones: quotes hold words together. */
export function words(text) {
  return [...text.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((m) => m[1] ?? m[2] ?? m[3]);
}

/** How a command ended, by the Status on the channel of errors. */
export function verdict(text) {
  try {
    const status = JSON.parse(text);
    if (status.status === "Success") return "ended with exit code 0";
    const code = status.details?.causes?.find((c) => c.reason === "ExitCode")?.message;
    return code ? `ended with exit code ${code}` : status.message;
  } catch {
    return text;
  }
}

/** A message on a channel. */
export function framed(channel, bytes) {
  const message = new Uint8Array(bytes.length + 1);
  message[0] = channel;
  message.set(bytes, 1);
  return message;
}

/** The size of a terminal, as the API takes it. */
export function sized({ cols, rows }) {
  return new TextEncoder().encode(JSON.stringify({ Width: cols, Height: rows }));
}

/** Runs a command on a terminal until it ends; `changed` is told whether it runs. Gives its connection. */
function run(path, terminal, { changed, leave }) {
  const one = socket(path, PROTOCOLS);
  one.binaryType = "arraybuffer";
  const say = (channel, bytes) => one.readyState === WebSocket.OPEN && one.send(framed(channel, bytes));
  const size = terminal.begin({ input: (bytes) => say(STDIN, bytes), resize: (to) => say(RESIZE, sized(to)), leave });
  let wasOpen = false;
  one.onopen = () => {
    wasOpen = true;
    changed(true);
    say(RESIZE, sized(size));
    terminal.focus();
  };
  one.onmessage = ({ data }) => {
    const [[channel], bytes] = [new Uint8Array(data, 0, 1), new Uint8Array(data, 1)];
    if (channel === STDOUT || channel === STDERR) terminal.write(bytes);
    if (channel === ERROR) terminal.note(verdict(new TextDecoder().decode(bytes)));
  };
  one.onclose = async () => {
    terminal.end();
    changed(false);
    if (wasOpen) return;
    // A WebSocket does not say why it was refused; the same request without one does.
    terminal.note(await getText(path).then(() => "the connection broke", (err) => err.message));
  };
  return one;
}

export function Shell({ pod }) {
  const names = pod.spec.containers.map((c) => c.name);
  const [container, setContainer] = useState(names[0]);
  const [command, setCommand] = useState("sh");
  const [isOpen, setOpen] = useState(false);
  const [terminal, setTerminal] = useState(null);
  const [frame, button, ws] = [useRef(), useRef(), useRef(null)];
  useEffect(() => () => ws.current?.close(), []);
  const toggle = (event) => {
    event.preventDefault();
    if (isOpen) return ws.current.close();
    const options = ["stdin", "stdout", "tty"].map((option) => [option, "true"]);
    const query = new URLSearchParams([["container", container], ...options, ...words(command).map((w) => ["command", w])]);
    const path = `${pathOf(KINDS.Pod, pod.metadata.namespace, pod.metadata.name, "exec")}?${query}`;
    ws.current = run(path, terminal, { changed: setOpen, leave: () => button.current.focus() });
  };
  return html`<div class="shell">
    <form class="bar" onSubmit=${toggle}>
      ${names.length > 1 && html`<select value=${container} disabled=${isOpen} onChange=${(e) => setContainer(e.target.value)} aria-label="Container">${names.map((n) => html`<option key=${n} value=${n}>${n}</option>`)}</select>`}
      <input class="mono" value=${command} disabled=${isOpen} onInput=${(e) => setCommand(e.target.value)} aria-label="Command" spellcheck="false" autocapitalize="off" />
      <button type="submit" ref=${button} disabled=${!terminal} class=${isOpen ? "" : "primary"}>${isOpen ? "End" : "Run"}</button>
    </form>
    <iframe ref=${frame} src="terminal.html" title=${`Terminal of ${pod.metadata.name}`} onLoad=${() => setTerminal(frame.current.contentWindow.terminal ?? null)}></iframe>
    <p class="hint"><kbd>Shift</kbd> <kbd>Esc</kbd> leaves the terminal.</p>
  </div>`;
}
