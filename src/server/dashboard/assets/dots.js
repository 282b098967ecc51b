// A dot for each connection, from where it came in to the pod that took it. Drawn on a canvas over the picture: there may be many.

import { html, useEffect, useRef } from "./vendor/preact.js";
import { podKey } from "./layout.js";

/** How long a dot is under way, and over how long the connections of one report are spread. */
const TRAVEL_MS = 700;
const SPREAD_MS = 200;
/** So many dots are begun with a report; of more connections each dot stands for several. */
const DOTS_MAX = 40;
/** How fast the scale comes back to one dot for a connection. */
const FALL = 0.97;
const STEPS = 20;
const SVG = "http://www.w3.org/2000/svg";

/** The edges that a connection to an endpoint runs along, as their paths. Pure. */
export function way(placed, model, { metadata, service, port, podUID }) {
  const id = `Service/${metadata.namespace}/${service}`;
  const pod = placed.pods.find((p) => p.pod.object.metadata.uid === podUID);
  if (!pod) return [];
  const doors = model.entries.filter((e) => e.to.includes(id));
  const door = doors.find((e) => e.port === port) ?? doors[0];
  const edge = (from, to) => placed.edges.find((e) => e.from === from && e.id === `${from}>${to}`)?.d;
  const last = edge(pod.workload.id, pod.pod.id) ?? edge(pod.workload.id, podKey);
  return [door && edge(door.id, id), edge(id, pod.workload.id), last].filter(Boolean);
}

/** How many dots the connections of a report are, and how many connections a dot is. Pure. */
export function scaleOf(recent, total) {
  const most = Math.max(total, recent * FALL);
  return { recent: most, each: Math.max(1, Math.ceil(most / DOTS_MAX)) };
}

const measured = new Map();
/** Points along a path, evenly. */
function pointsOf(d) {
  if (!measured.has(d)) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    const length = path.getTotalLength();
    const points = Array.from({ length: STEPS + 1 }, (_, i) => path.getPointAtLength((length * i) / STEPS));
    if (measured.size > 500) measured.clear();
    measured.set(d, points);
  }
  return measured.get(d);
}

export function Dots({ placed, model, traffic }) {
  const canvas = useRef();
  const now = useRef();
  now.current = { placed, model };
  useEffect(() => {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return undefined;
    let dots = [];
    let frame = 0;
    let news = [];
    let scale = { recent: 0, each: 1 };
    let colours = {};
    /** Parts of connections that are not a dot yet, by endpoint. */
    const rest = new Map();
    const begin = (at) => {
      if (!news.length) return;
      colours = coloursOf(canvas.current);
      scale = scaleOf(scale.recent, news.reduce((sum, n) => sum + n.begun + n.lost, 0));
      for (const { object, begun, lost } of news) {
        const edges = way(now.current.placed, now.current.model, object);
        if (!edges.length) continue;
        const add = (n, isLost) => {
          const key = `${object.metadata.name} ${isLost}`;
          const due = (rest.get(key) ?? 0) + n / scale.each;
          rest.set(key, due % 1);
          for (let i = 0; i < Math.floor(due); i++) dots.push({ edges, isLost, at: at + (SPREAD_MS * (i + Math.random())) / Math.floor(due) });
        };
        if (begun) add(begun, false);
        if (lost) add(lost, true);
      }
      news = [];
    };
    const draw = (at) => {
      frame = 0;
      if (!canvas.current) return;
      begin(at);
      paint(canvas.current, now.current.placed, dots, colours, scale.each, at);
      dots = dots.filter((dot) => at < dot.at + TRAVEL_MS);
      if (dots.length) frame = requestAnimationFrame(draw);
    };
    const stop = traffic.listen((one) => {
      if (!one.begun && !one.lost) return;
      news.push(one);
      frame ||= requestAnimationFrame(draw);
    });
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, [traffic]);
  return html`<canvas class="dots" ref=${canvas} aria-hidden="true"></canvas>`;
}

/** Read with each report, not with each frame: reading them lays the page out. */
function coloursOf(canvas) {
  const look = getComputedStyle(canvas);
  const [begun, lost, soft] = ["--accent", "--fill-failing", "--soft"].map((name) => look.getPropertyValue(name));
  return { begun, lost, soft };
}

function paint(canvas, placed, dots, colours, each, at) {
  const dense = Math.min(2, devicePixelRatio || 1);
  const [width, height] = [placed.width * placed.size, placed.height * placed.size].map(Math.round);
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    Object.assign(canvas, { width: Math.round(width * dense), height: Math.round(height * dense) });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(dense * placed.size, 0, 0, dense * placed.size, 0, 0);
  for (const { edges, isLost, at: begun } of dots) {
    const done = (at - begun) / TRAVEL_MS;
    if (done < 0 || done >= 1) continue;
    const along = done * edges.length;
    const points = pointsOf(edges[Math.floor(along)]);
    const place = (along % 1) * STEPS;
    const [a, b] = [points[Math.floor(place)], points[Math.floor(place) + 1]];
    const part = place % 1;
    pen.fillStyle = isLost ? colours.lost : colours.begun;
    pen.beginPath();
    pen.arc(a.x + (b.x - a.x) * part, a.y + (b.y - a.y) * part, isLost ? 4 : 3, 0, 7);
    pen.fill();
  }
  if (each > 1 && dots.length) {
    pen.fillStyle = colours.soft;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.fillText(`a dot is ${each} connections`, placed.width - 8, placed.height - 8);
  }
}
