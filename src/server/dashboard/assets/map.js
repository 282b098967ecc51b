// The picture: entries, Services, workloads and pods as one SVG. Everything in it is a link, which the keyboard reaches.

import { Component, html, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import { MONO_LETTER, fit, fitEnd, layout, next, shortName } from "./layout.js";
import { containerState, counted } from "./model.js";
import { Sign, later } from "./ui.js";

const Dots = later(() => import("./dots.js"), "Dots");

const TITLES = { entry: "From outside", service: "Services", workload: "Workloads", pods: "Pods" };
const at = (x, y) => ({ transform: `translate(${Math.round(x * 10) / 10}px, ${Math.round(y * 10) / 10}px)` });

export function Picture({ model, selected, hrefOf, onScale, hit, traffic }) {
  const frame = useRef();
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  const placed = useMemo(() => (width ? sized(model, width) : null), [model, width]);
  // Arrows go from one thing to the next as the picture has them.
  const onKeyDown = (event) => {
    if (!event.key.startsWith("Arrow") || event.altKey || event.ctrlKey || event.metaKey) return;
    const boxes = [...placed.nodes.map((n) => ({ ...n, id: n.node.id })), ...placed.pods.map((p) => ({ ...p, id: p.pod.id }))];
    const id = event.target.closest?.("[data-id]")?.dataset.id;
    const to = next(boxes, boxes.find((b) => b.id === id) ?? { x: 0, y: 0, w: 0, h: 0 }, event.key);
    if (!to) return;
    event.preventDefault();
    frame.current.querySelector(`[data-id="${CSS.escape(to.id)}"]`)?.focus();
  };
  return html`<div class="picture" ref=${frame} onKeyDown=${onKeyDown}>
    ${placed && html`<${Drawing} placed=${placed} selected=${selected} hrefOf=${hrefOf} onScale=${onScale} hit=${hit} />`}
    ${placed && traffic && !placed.isNarrow && html`<${Dots} placed=${placed} model=${model} traffic=${traffic} />`}
  </div>`;
}

/** A picture of few things is drawn larger: it is what people point at. */
const SIZES = [1.35, 1.2, 1.1];
const FEW = 24;
/** So many pods are not moved and turned: what is drawn is what changed. */
const MANY = 80;
function sized(model, width) {
  const plain = { ...layout(model, width), size: 1 };
  if (model.workloads.reduce((sum, w) => sum + w.pods.length, 0) > FEW) return plain;
  const room = Math.max(300, innerHeight - 330);
  const fitting = SIZES.filter((size) => width / size >= 960).map((size) => ({ ...layout(model, width / size), size }));
  return fitting.find((one) => one.height * one.size <= room) ?? plain;
}

function Drawing({ placed, selected, hrefOf, onScale, hit }) {
  const isOn = (id) => selected && (selected === id || placed.edges.some((e) => (e.from === id && e.to === selected) || (e.to === id && e.from === selected)));
  return html`<svg class=${placed.pods.length > MANY ? "many" : ""} width=${placed.width * placed.size} height=${placed.height * placed.size} viewBox=${`0 0 ${placed.width} ${placed.height}`} role="group" aria-label="Map of the cluster">
    ${placed.bands.map((b) => html`<g key=${`band ${b.ns}`} class="band"><rect x=${b.x} y=${b.y} width=${b.w} height=${b.h} rx="12" /><text x=${b.x + 14} y=${b.y + 19}>${b.ns}</text></g>`)}
    ${placed.columns.map((c) => html`<text key=${c.name} class="column" x=${c.x + 2} y="24">${TITLES[c.name]}</text>`)}
    <g class="edges" aria-hidden="true">
      ${placed.edges.map((e) => html`<path key=${e.id} class=${`edge is-${e.is} ${selected && (e.from === selected || e.to === selected) ? "on" : ""}`} d=${e.d} />`)}
    </g>
    ${placed.nodes.map(({ column, node, ...box }) => {
      const Form = { entry: Entry, service: Service, workload: Workload }[column];
      return html`<${Form} key=${node.id} node=${node} box=${box} isOn=${isOn(node.id)} isSelected=${selected === node.id} href=${hrefOf(node)} onScale=${onScale} />`;
    })}
    ${placed.pods.map((p) => html`<${Pod} key=${p.pod.object.metadata.uid} ...${p} isSelected=${selected === p.pod.id} href=${hrefOf(p.pod)} isHit=${hit.has(p.pod.object.metadata.uid)} />`)}
  </svg>`;
}

const classes = (...names) => names.filter(Boolean).join(" ");

function Entry({ node, box, isSelected, isOn, href }) {
  const room = box.w - (node.url ? 62 : 34);
  return html`<g class="place" style=${at(box.x, box.y)}>
    <a href=${href} data-id=${node.id} class=${classes("node entry", isSelected && "selected", isOn && "on")} aria-label=${`${node.kind} ${node.name}, leads to ${node.object.metadata.name}`}>
      <rect class="card" width=${box.w} height=${box.h} rx="10" />
      <rect class="tab" width="4" height=${box.h - 20} x="0" y="10" rx="2" />
      <text class="kind" x="16" y="20">${node.kind}</text>
      <text class="name url" x="16" y="38">${fit(node.name, room)}</text>
    </a>
    ${node.url &&
    html`<a class="go" href=${node.url} target="_blank" rel="noreferrer noopener" aria-label=${`Open ${node.url} in a new tab`} style=${at(box.w - 38, box.h / 2 - 14)}>
      <rect width="28" height="28" rx="8" /><path d="M10 9h9v9M19 9l-9.500 9.500" />
    </a>`}
  </g>`;
}

function Service({ node, box, isSelected, isOn, href }) {
  const { spec } = node.object;
  const ports = (spec.ports ?? []).map((p) => `${p.port}${p.targetPort && p.targetPort !== p.port ? ` → ${p.targetPort}` : ""}${p.protocol && p.protocol !== "TCP" ? ` ${p.protocol}` : ""}`).join(", ");
  const is = node.nReady ? "ready" : spec.type === "ExternalName" ? "idle" : node.nAll ? "starting" : "idle";
  const text = spec.type === "ExternalName" ? spec.externalName : `${node.nReady} of ${node.nAll} endpoints ready`;
  return html`<g class="place" style=${at(box.x, box.y)}>
    <a href=${href} data-id=${node.id} class=${classes("node service", isSelected && "selected", isOn && "on")} aria-label=${`Service ${node.name}, ports ${ports || "none"}, ${text}`}>
      <rect class="card" width=${box.w} height=${box.h} rx="10" />
      <g style=${at(20, box.h / 2)}><${Sign} is=${is} r=${6.5} /></g>
      <text class="name" x="36" y="21">${fit(node.name, box.w - 46)}</text>
      <text class="small" x="36" y="38">${fit(ports || text, box.w - 92)}</text>
      <text class="small count" x=${box.w - 12} y="38" text-anchor="end">${node.nAll ? `${node.nReady}/${node.nAll}` : ""}</text>
    </a>
  </g>`;
}

/** The ring: a piece for each pod that is wanted, in the colour of its state; one arc for each state where they are many. */
export function Ring({ workload, r = 27 }) {
  const pods = workload.pods.filter((p) => !p.isDeployer);
  const n = Math.max(workload.wanted, pods.length);
  const order = ["ready", "done", "starting", "failing", "ending"];
  const states = pods.map((p) => p.state.is).sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const slots = Array.from({ length: n }, (_, i) => states[i] ?? "missing");
  const pieces = [];
  slots.forEach((is, i) => {
    const last = pieces.at(-1);
    if (n > 16 && last?.is === is) last.to = i + 1;
    else pieces.push({ is, from: i, to: i + 1 });
  });
  return html`<g class="ring">
    <circle class="track" r=${r} />
    ${n > 0 && pieces.map((p, i) => html`<path key=${i} class=${`arc is-${p.is}`} d=${arc(r, p.from / n, p.to / n, n > 1 ? 2.2 : 0)} />`)}
    <text class="wanted" text-anchor="middle" y=${workload.ready === workload.wanted ? 6 : 2}>${workload.ready}</text>
    ${workload.ready !== workload.wanted && html`<text class="of" text-anchor="middle" y="15">of ${workload.wanted}</text>`}
  </g>`;
}

function arc(r, from, to, gap) {
  const pad = gap / (2 * Math.PI * r);
  const [a, b] = [from + pad, Math.min(to - pad, from + 0.9999)].map((t) => t * 2 * Math.PI - Math.PI / 2);
  const p = (t) => `${(r * Math.cos(t)).toFixed(2)},${(r * Math.sin(t)).toFixed(2)}`;
  return `M${p(a)}A${r},${r} 0 ${b - a > Math.PI ? 1 : 0} 1 ${p(b)}`;
}

function Workload({ node, box, isSelected, isOn, href, onScale }) {
  const room = box.w - 88 - (node.canScale ? 40 : 8);
  const is = node.state.is;
  const [old, young] = [node.generations[0], node.generations.at(-1)];
  const isUpdating = node.generations.length > 1;
  const image = node.images[0]?.replace(/^.*\//, "") ?? "";
  const label = `${node.kind} ${node.name}, ${node.ready} of ${node.wanted} ready${is === "ready" ? "" : `, ${node.state.text}`}${node.isPaused ? ", paused" : ""}`;
  const total = isUpdating ? node.generations.reduce((sum, g) => sum + g.pods.length, 0) || 1 : 1;
  return html`<g class="place" style=${at(box.x, box.y)}>
    <a href=${href} data-id=${node.id} class=${classes("node workload", `is-${is}`, isSelected && "selected", isOn && "on")} aria-label=${label}>
      <rect class="card" width=${box.w} height=${box.h} rx="14" />
      <g style=${at(46, box.h / 2)}><${Ring} workload=${node} /></g>
      <text class="kind" x="86" y="24">${fit(node.kind, room)}</text>
      <text class="name big" x="86" y="44">${fit(node.name, room, 8.8)}</text>
      <text class="small" x="86" y="61">${fit(image, room, 7)}</text>
      ${isUpdating
        ? html`<g style=${at(86, 71)} class="share"><rect class="old" width=${room} height="5" rx="2.500" /><rect class="young" width=${(room * young.pods.length) / total} height="5" rx="2.500" /></g>`
        : html`<text class=${`small state is-${is}`} x="86" y="78">${fit(node.isPaused ? `paused · ${node.state.text}` : node.state.text, room + 30, 6.4)}</text>`}
    </a>
    ${node.canScale &&
    html`<g class="scale" style=${at(box.w - 38, 0)}>
      <${Arrow} y=${14} d="M8 17l6-6l6 6" label=${`Scale ${node.name} to ${node.wanted + 1}`} onPress=${() => onScale(node, 1)} />
      <${Arrow} y=${box.h - 42} d="M8 11l6 6l6-6" label=${`Scale ${node.name} to ${Math.max(0, node.wanted - 1)}`} onPress=${() => onScale(node, -1)} isOff=${node.wanted === 0} />
    </g>`}
  </g>`;
}

function Arrow({ y, d, label, onPress, isOff }) {
  const onKey = (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      onPress();
    }
  };
  return html`<g class=${classes("arrow", isOff && "off")} role="button" tabindex=${isOff ? -1 : 0} aria-label=${label} aria-disabled=${isOff ? "true" : null} onClick=${isOff ? null : onPress} onKeyDown=${onKey} style=${at(0, y)}>
    <title>${label}</title><rect width="28" height="28" rx="8" /><path d=${d} />
  </g>`;
}

/** Drawn again only when something of it is another: there may be hundreds. */
class Pod extends Component {
  shouldComponentUpdate(next) {
    const now = this.props;
    return next.pod.object !== now.pod.object || ["form", "x", "y", "w", "h", "isSelected", "href", "isHit"].some((name) => next[name] !== now[name]);
  }

  render(props) {
    return podOf(props);
  }
}

function podOf({ pod, form, x, y, w, h, isSelected, href, isHit, workload }) {
  const { is, text } = pod.state;
  const label = `Pod ${pod.name}, ${text}${pod.restarts ? `, ${counted(pod.restarts, "restart")}` : ""}`;
  const statuses = pod.object.status?.containerStatuses ?? [];
  const names = pod.object.spec.containers.map((c) => c.name);
  const boxes = names.map((name) => containerState(statuses.find((s) => s.name === name)).is);
  const name = workload ? shortName(pod, workload) : pod.name;
  const right = 12 + boxes.length * 12;
  const note = pod.isDeployer ? "deployer" : is === "ready" ? "" : text;
  const noteRoom = note ? Math.min(note.length * 6.3 + 8, w * 0.45) : 0;
  const restarts = pod.restarts ? `↻${pod.restarts}` : "";
  const restartRoom = restarts ? restarts.length * 7 + 12 : 0;
  return html`<g class="place" style=${at(x, y)}>
    <a href=${href} data-id=${pod.id} class=${classes("node pod", form, `is-${is}`, isSelected && "selected", isHit && "hit")} aria-label=${label}>
      <title>${label}</title>
      <rect class="card" width=${w} height=${h} rx=${form === "chip" ? 8 : 5} />
      ${form === "cell"
        ? html`<g style=${at(w / 2, h / 2)}><${Sign} is=${is} r=${w / 3.4} /></g>`
        : html`<g style=${at(16, h / 2)}><${Sign} is=${is} r=${6} /></g>
            <text class="name mono" x="31" y=${h / 2 + 4}>${fitEnd(name, w - 34 - right - noteRoom - restartRoom, MONO_LETTER)}</text>
            ${note && html`<text class=${`small is-${is}`} text-anchor="end" x=${w - right - restartRoom} y=${h / 2 + 4}>${fit(note, noteRoom, 6)}</text>`}
            ${restarts && html`<text class="small restarts" text-anchor="end" x=${w - right} y=${h / 2 + 4}>${restarts}</text>`}
            ${boxes.map((state, i) => html`<rect key=${names[i]} class=${`container is-${state}`} x=${w - 8 - (boxes.length - i) * 12 + 2} y=${h / 2 - 4} width="8" height="8" rx="2"><title>${`${names[i]}: ${state}`}</title></rect>`)}`}
    </a>
  </g>`;
}
