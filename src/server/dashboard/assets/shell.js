// A command in a container, line by line: what is typed goes to its input, what it says is shown. A shell by default; programs that paint
// the whole screen want a terminal, and `kubectl exec -it` is one.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { getText, pathOf, socket } from "./api.js";
import { KINDS } from "./cluster.js";
import { pieces } from "./logs.js";

const PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const [STDIN, STDOUT, STDERR, ERROR] = [0, 1, 2, 3];
const LINES_MAX = 2000;

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

/** Text in the order in which it came, in lines; the last one may go on. */
export function append(lines, from, text) {
  const out = [...lines];
  for (const part of text.replaceAll("\r", "").split(/(?<=\n)/).filter(Boolean)) {
    const last = out.at(-1);
    const isWhole = part.endsWith("\n");
    const body = isWhole ? part.slice(0, -1) : part;
    if (last?.from === from && !last.isWhole) out[out.length - 1] = { from, text: last.text + body, isWhole };
    else out.push({ from, text: body, isWhole });
  }
  return out.slice(-LINES_MAX);
}

export function Shell({ pod }) {
  const names = pod.spec.containers.map((c) => c.name);
  const [container, setContainer] = useState(names[0]);
  const [command, setCommand] = useState("sh");
  const [lines, setLines] = useState([]);
  const [isOpen, setOpen] = useState(false);
  const [typed, setTyped] = useState("");
  const ws = useRef(null);
  const box = useRef();
  const past = useRef({ all: [], at: 0 });
  const say = (from, text) => setLines((known) => append(known, from, text));
  useEffect(() => () => ws.current?.close(), []);
  useLayoutEffect(() => {
    box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  const begin = (event) => {
    event.preventDefault();
    if (isOpen) return ws.current.close();
    const query = new URLSearchParams([["container", container], ["stdin", "true"], ["stdout", "true"], ["stderr", "true"], ...words(command).map((w) => ["command", w])]);
    const path = `${pathOf(KINDS.Pod, pod.metadata.namespace, pod.metadata.name, "exec")}?${query}`;
    const one = socket(path, PROTOCOLS);
    one.binaryType = "arraybuffer";
    ws.current = one;
    let wasOpen = false;
    const decoders = { [STDOUT]: new TextDecoder(), [STDERR]: new TextDecoder() };
    one.onopen = () => {
      wasOpen = true;
      setOpen(true);
      say("note", `${command} in ${container}\n`);
    };
    one.onmessage = ({ data }) => {
      const bytes = new Uint8Array(data);
      const [channel] = bytes;
      if (channel === ERROR) return say("note", `${verdict(new TextDecoder().decode(bytes.subarray(1)))}\n`);
      if (bytes.length > 1 && decoders[channel]) say(channel === STDERR ? "err" : "out", decoders[channel].decode(bytes.subarray(1), { stream: true }));
    };
    one.onclose = async () => {
      setOpen(false);
      if (wasOpen) return;
      // A WebSocket does not say why it was refused; the same request without one does.
      const why = await getText(path).then(() => "the connection broke", (err) => err.message);
      say("note", `${why}\n`);
    };
  };
  const send = (event) => {
    event.preventDefault();
    ws.current.send(new Uint8Array([STDIN, ...new TextEncoder().encode(`${typed}\n`)]));
    say("in", `${typed}\n`);
    past.current.all.push(typed);
    past.current.at = past.current.all.length;
    setTyped("");
  };
  const recall = (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const { all, at } = past.current;
    past.current.at = Math.max(0, Math.min(all.length, at + step));
    setTyped(all[past.current.at] ?? "");
  };
  return html`<div class="shell">
    <form class="bar" onSubmit=${begin}>
      ${names.length > 1 && html`<select value=${container} disabled=${isOpen} onChange=${(e) => setContainer(e.target.value)} aria-label="Container">${names.map((n) => html`<option key=${n} value=${n}>${n}</option>`)}</select>`}
      <input class="mono" value=${command} disabled=${isOpen} onInput=${(e) => setCommand(e.target.value)} aria-label="Command" spellcheck="false" autocapitalize="off" />
      <button type="submit" class=${isOpen ? "" : "primary"}>${isOpen ? "End" : "Run"}</button>
    </form>
    <div class="lines wrapped" ref=${box} role="log" tabindex="0" aria-label="What the command says">
      ${!lines.length && html`<p class="hint">Run a command in ${container}. Line by line: for programs that want a whole terminal, <code>kubectl exec -it ${pod.metadata.name} -- ${command || "sh"}</code></p>`}
      ${lines.map((l, i) => html`<div key=${i} class=${`line ${l.from}`}><span class="text">${l.from === "in" ? "$ " : ""}${pieces(l.text).map((p, j) => html`<span key=${j} class=${p.class}>${p.text}</span>`)}</span></div>`)}
    </div>
    <form class="prompt" onSubmit=${send}><span aria-hidden="true">$</span><input class="mono" value=${typed} disabled=${!isOpen} onInput=${(e) => setTyped(e.target.value)} onKeyDown=${recall} aria-label="Input" spellcheck="false" autocapitalize="off" autocomplete="off" /></form>
  </div>`;
}
