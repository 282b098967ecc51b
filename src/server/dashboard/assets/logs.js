// The merged log of some containers, live: a colour for each, kept when they die, and followed into their successors.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import { getText, pathOf, socket } from "./api.js";
import { KINDS } from "./cluster.js";
import { Icon } from "./ui.js";

/** Lines that are kept, and that are shown. */
const LINES_MAX = 5000;
const SHOWN_MAX = 800;
const TAIL = 200;
const COLOURS = 8;

/** The containers of pods whose logs there can be. */
export const sourcesOf = (pods) =>
  pods.flatMap(({ object: pod }) =>
    [...(pod.spec.initContainers ?? []), ...pod.spec.containers].map((c) => {
      const all = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
      const status = all.find((s) => s.name === c.name);
      return { key: `${pod.metadata.uid}/${c.name}`, pod: pod.metadata.name, ns: pod.metadata.namespace, container: c.name, id: status?.containerID ?? "", restarts: status?.restartCount ?? 0 };
    }),
  );

export const logPath = (source, query) => `${pathOf(KINDS.Pod, source.ns, source.pod, "log")}?container=${encodeURIComponent(source.container)}&timestamps=true&${query}`;

/** What a line says: when, and what. */
export function readLine(line) {
  const space = line.indexOf(" ");
  return space > 18 && line[4] === "-" ? { at: line.slice(0, space), text: line.slice(space + 1) } : { at: "", text: line };
}

/** Puts lines in the order of their times. Those of one source keep theirs. */
export function merge(lines, more) {
  const last = lines.at(-1)?.at ?? "";
  const sorted = [...more].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.n - b.n));
  const all = !sorted.length || sorted[0].at >= last ? [...lines, ...sorted] : [...lines, ...sorted].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.n - b.n));
  return all.length > LINES_MAX ? all.slice(all.length - LINES_MAX) : all;
}

/** Text with the colours that terminals know, as pieces with classes. */
export function pieces(text) {
  const out = [];
  let classes = [];
  for (const part of text.split(/(\x1b\[[0-9;?]*[A-Za-z])/)) {
    const sgr = /^\x1b\[([0-9;]*)m$/.exec(part);
    if (sgr) {
      for (const code of (sgr[1] || "0").split(";").map(Number)) {
        if (code === 0) classes = [];
        else if (code === 1) classes = [...classes, "bold"];
        else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) classes = [...classes.filter((c) => !c.startsWith("fg")), `fg${code % 10}`];
        else if (code === 39) classes = classes.filter((c) => !c.startsWith("fg"));
      }
    } else if (part && !part.startsWith("\x1b")) out.push({ text: part, class: classes.join(" ") });
  }
  return out;
}

/** Ends a WebSocket that may not be open yet: a browser complains of those that end before they begin. */
function end(ws) {
  if (ws.readyState === WebSocket.CONNECTING) ws.onopen = () => ws.close();
  else ws.close();
}

/** Follows sources as they come, and tells of lines once a frame. */
class Tail {
  constructor(onLines) {
    this.onLines = onLines;
    this.open = new Map();
    this.colours = new Map();
    this.last = new Map();
    this.pending = [];
    this.n = 0;
    this.frame = 0;
    this.isOver = false;
  }

  follow(sources) {
    for (const source of sources) {
      if (!source.id) continue;
      if (!this.colours.has(source.key)) this.colours.set(source.key, this.colours.size % COLOURS);
      const { id } = this.open.get(source.key) ?? {};
      if (id !== source.id) this.begin(source);
    }
  }

  begin(source) {
    const former = this.open.get(source.key);
    if (former) end(former.ws);
    const since = this.last.get(source.key);
    const ws = socket(logPath(source, `follow=true&${since ? `sinceTime=${encodeURIComponent(since)}` : `tailLines=${TAIL}`}`), ["binary.k8s.io"]);
    ws.binaryType = "arraybuffer";
    this.open.set(source.key, { id: source.id, ws });
    const decoder = new TextDecoder();
    let rest = "";
    ws.onmessage = ({ data }) => {
      rest += decoder.decode(data, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines) this.take(source, readLine(line));
    };
  }

  take(source, { at, text }) {
    // A successor's log begins where the last one's ended: that moment's lines are known.
    if (at && at <= (this.last.get(source.key) ?? "") && this.open.get(source.key)?.id !== source.id) return;
    if (at) this.last.set(source.key, at);
    this.pending.push({ n: this.n++, at, text, pod: source.pod, container: source.container, colour: this.colours.get(source.key) });
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      const lines = this.pending;
      this.pending = [];
      if (!this.isOver) this.onLines(lines);
    });
  }

  end() {
    this.isOver = true;
    for (const { ws } of this.open.values()) end(ws);
  }
}

export function Logs({ pods, focus }) {
  const [lines, setLines] = useState([]);
  const [filter, setFilter] = useState("");
  const [only, setOnly] = useState("");
  const [isWrapped, setWrapped] = useState(true);
  const [previous, setPrevious] = useState(null);
  const tail = useRef();
  const box = useRef();
  const isAtEnd = useRef(true);
  const sources = useMemo(() => sourcesOf(pods), [pods]);
  useEffect(() => {
    tail.current = new Tail((more) => setLines((known) => merge(known, more)));
    return () => tail.current.end();
  }, [focus]);
  useEffect(() => tail.current.follow(sources), [sources]);
  const containers = [...new Set(sources.map((s) => s.container))];
  const hasSeveral = pods.some((p) => p.object.spec.containers.length > 1);
  const many = new Set(lines.map((l) => l.pod)).size > 1 || pods.length > 1;
  const words = filter.toLowerCase();
  const shown = (previous ? previous.lines : lines).filter((l) => (!only || l.container === only) && (!words || l.text.toLowerCase().includes(words) || l.pod.includes(words)));
  useLayoutEffect(() => {
    if (isAtEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [shown.length, shown.at(-1)?.n]);
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < 24;
  };
  const restarted = sources.filter((s) => s.restarts > 0);
  const showPrevious = async () => {
    if (previous) return setPrevious(null);
    const texts = await Promise.all(restarted.map((s) => getText(logPath(s, "previous=true&tailLines=1000")).catch((err) => err.message)));
    let n = 0;
    const before = texts.flatMap((text, i) => text.trimEnd().split("\n").map((line) => ({ n: n++, ...readLine(line), pod: restarted[i].pod, container: restarted[i].container, colour: i % COLOURS })));
    setPrevious({ lines: before.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.n - b.n)) });
  };
  const cut = shown.length - SHOWN_MAX;
  return html`<div class="logs">
    <div class="bar">
      <label class="field"><${Icon} name="search" size=${14} /><input type="search" value=${filter} onInput=${(e) => setFilter(e.target.value)} placeholder="Filter lines" aria-label="Filter lines" /></label>
      ${containers.length > 1 &&
      html`<select value=${only} onChange=${(e) => setOnly(e.target.value)} aria-label="Container">
        <option value="">all containers</option>
        ${containers.map((c) => html`<option key=${c} value=${c}>${c}</option>`)}
      </select>`}
      ${restarted.length > 0 && html`<button type="button" class=${previous ? "on" : ""} aria-pressed=${previous ? "true" : "false"} onClick=${showPrevious}>Previous</button>`}
      <button type="button" class=${isWrapped ? "on" : ""} aria-pressed=${isWrapped ? "true" : "false"} onClick=${() => setWrapped(!isWrapped)}>Wrap</button>
    </div>
    <div class=${`lines ${isWrapped ? "wrapped" : ""}`} ref=${box} onScroll=${onScroll} tabindex="0" role="log" aria-label=${previous ? "Log before the last restart" : "Log"}>
      ${cut > 0 && html`<p class="hint">${cut} earlier lines are not shown: filter for them</p>`}
      ${!shown.length && html`<p class="hint">${lines.length ? "No line matches the filter" : "Nothing was logged yet"}</p>`}
      ${shown.slice(-SHOWN_MAX).map((l) => html`<div key=${l.n} class="line"><time title=${l.at}>${l.at.slice(11, 23)}</time>${(many || hasSeveral) && html`<span class=${`from c${l.colour}`} title=${`${l.pod} · ${l.container}`}>${l.pod.split("-").at(-1)}${hasSeveral ? `·${l.container}` : ""}</span>`}<span class="text">${pieces(l.text).map((p, i) => html`<span key=${i} class=${p.class}>${p.text}</span>`)}</span></div>`)}
    </div>
  </div>`;
}

/** The last lines of a container that ended, beside the reason. */
export function LastLines({ source, isPrevious }) {
  const [text, setText] = useState(null);
  useEffect(() => {
    let isOver = false;
    const path = logPath(source, `tailLines=8${isPrevious ? "&previous=true" : ""}`);
    getText(path)
      .catch((err) => `(${err.message})`)
      .then((got) => !isOver && setText(got));
    return () => (isOver = true);
  }, [source.key, source.id, isPrevious]);
  const lines = (text ?? "").trimEnd().split("\n").map((l) => readLine(l).text);
  return html`<pre class="last-lines" aria-label=${`Last lines of ${source.container}`}>${text === null ? "…" : lines.map((l, i) => html`<div key=${i}>${pieces(l).map((p, j) => html`<span key=${j} class=${p.class}>${p.text}</span>`)}</div>`)}</pre>`;
}
