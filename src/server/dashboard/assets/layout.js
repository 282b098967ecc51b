// Where each thing of the picture is: four columns side by side where there is room, one below the other where there is not. Pure.

/** Text is set so that it fits: the width of a letter, in pixels. */
const LETTER = 7.1;
const MONO = 7.3;
const PAD = 20;
const GAP = 14;
const HEAD = 34;
const ENTRY_H = 50;
const WORK_H = 92;
const CHIP_H = 30;
const CHIP_GAP = 6;
/** Pods of a workload, and of the whole picture, that have a line each. More of them are cells of a grid. */
const CHIPS_MAX = 8;
const CHIPS_TOTAL_MAX = 60;
const CELL = 24;
const CELL_SMALL = 17;
/** Narrower than this, columns do not fit. */
const NARROW = 720;

export const fit = (text, width, letter = LETTER) => {
  const n = Math.max(3, Math.floor(width / letter));
  return text.length <= n ? text : `${text.slice(0, n - 1)}…`;
};

/** The end of a text that does not fit: what tells names apart that begin alike. */
export const fitEnd = (text, width, letter = LETTER) => {
  const n = Math.max(3, Math.floor(width / letter));
  return text.length <= n ? text : `…${text.slice(text.length - n + 1)}`;
};

/** The part of a pod's name that tells it from the others of its workload. */
export const shortName = (pod, workload) => (pod.name.startsWith(`${workload.name}-`) && pod.name.length > workload.name.length + 1 ? `…${pod.name.slice(workload.name.length)}` : pod.name);

export function layout(model, width) {
  return width < NARROW ? narrow(model, width) : wide(model, width);
}

/** How the pods of a workload are laid out in a width: as lines or as cells. */
function block(workload, width, total) {
  const { length } = workload.pods;
  if (length <= CHIPS_MAX && total <= CHIPS_TOTAL_MAX) {
    const columns = width >= 460 && length > 3 ? 2 : 1;
    const w = Math.min((width - (columns - 1) * CHIP_GAP) / columns, 330);
    const rows = Math.ceil(length / columns);
    const at = (i) => ({ x: (i % columns) * (w + CHIP_GAP), y: Math.floor(i / columns) * (CHIP_H + CHIP_GAP), w, h: CHIP_H });
    return { form: "chip", height: rows * CHIP_H + Math.max(0, rows - 1) * CHIP_GAP, at };
  }
  const cell = length > 60 ? CELL_SMALL : CELL;
  const columns = Math.max(1, Math.floor(width / cell));
  const at = (i) => ({ x: (i % columns) * cell, y: Math.floor(i / columns) * cell, w: cell - 4, h: cell - 4 });
  return { form: "cell", height: Math.ceil(length / columns) * cell, at };
}

function placePods(workload, { form, at }, x, y) {
  return workload.pods.map((pod, i) => {
    const box = at(i);
    return { pod, workload, form, x: x + box.x, y: y + box.y, w: box.w, h: box.h };
  });
}

function wide(model, width) {
  const inner = width - 2 * PAD;
  const gap = Math.min(72, Math.max(32, inner * 0.035));
  const rest = inner - 3 * gap;
  const w = { entry: Math.min(260, rest * 0.22), service: Math.min(260, rest * 0.21), workload: Math.min(310, rest * 0.29) };
  w.pods = rest - w.entry - w.service - w.workload;
  const x = { entry: PAD, service: PAD + w.entry + gap };
  x.workload = x.service + w.service + gap;
  x.pods = x.workload + w.workload + gap;
  const total = model.workloads.reduce((sum, one) => sum + one.pods.length, 0);
  const out = { width, columns: ["entry", "service", "workload", "pods"].map((c) => ({ name: c, x: x[c], w: w[c] })), bands: [], nodes: [], pods: [], edges: [], isNarrow: false };
  const places = new Map();
  let y = HEAD + GAP;
  let band = null;
  const hasBands = new Set([...model.workloads, ...model.services].map((o) => o.ns)).size > 1;
  const openBand = (ns) => {
    if (band?.ns === ns) return;
    closeBand();
    if (hasBands) {
      band = { ns, y };
      y += 28;
    } else band = { ns, y };
  };
  const closeBand = () => {
    if (!band || !hasBands) return;
    out.bands.push({ ns: band.ns, y: band.y, h: y - band.y - 2, x: 6, w: width - 12 });
    y += 14;
  };
  const isPlaced = new Set();
  for (const ns of [...new Set([...model.workloads, ...model.services].map((o) => o.ns))].sort()) {
    openBand(ns);
    const top = y;
    for (const workload of model.workloads.filter((one) => one.ns === ns)) {
      const pods = block(workload, w.pods, total);
      const h = Math.max(WORK_H, pods.height);
      const box = { x: x.workload, y: y + (h - WORK_H) / 2, w: w.workload, h: WORK_H };
      out.nodes.push({ column: "workload", node: workload, ...box });
      places.set(workload.id, box);
      const placed = placePods(workload, pods, x.pods, y + (h - pods.height) / 2);
      out.pods.push(...placed);
      if (workload.pods.length) out.edges.push(...toPods(workload, box, placed, pods));
      y += h + GAP;
    }
    const bottom = y;
    const services = model.services.filter((s) => s.ns === ns);
    const entriesOf = (s) => model.entries.filter((e) => e.to[0] === s.id && !isPlaced.has(e.id));
    const wish = (ids) => {
      const ys = ids.map((id) => places.get(id)).filter(Boolean).map((box) => box.y + box.h / 2);
      return ys.length ? ys.reduce((a, b) => a + b, 0) / ys.length : null;
    };
    // A Service is beside what it leads to; those that lead nowhere come last.
    const wanted = services.map((s) => {
      const doors = entriesOf(s);
      doors.forEach((e) => isPlaced.add(e.id));
      return { s, doors, at: wish(s.to), h: Math.max(ENTRY_H, doors.length * (ENTRY_H + 8) - 8) };
    });
    wanted.sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity) || a.s.name.localeCompare(b.s.name));
    let free = top;
    for (const { s, doors, at, h } of settle(wanted, top)) {
      const box = { x: x.service, y: at - ENTRY_H / 2, w: w.service, h: ENTRY_H };
      out.nodes.push({ column: "service", node: s, ...box });
      places.set(s.id, box);
      doors.forEach((door, i) => {
        const spot = { x: x.entry, y: at - h / 2 + i * (ENTRY_H + 8) + (h - doors.length * (ENTRY_H + 8) + 8) / 2, w: w.entry, h: ENTRY_H };
        out.nodes.push({ column: "entry", node: door, ...spot });
        places.set(door.id, spot);
      });
      free = Math.max(free, at + h / 2 + GAP);
    }
    const loose = model.entries.filter((e) => e.ns === ns && !isPlaced.has(e.id));
    for (const door of loose) {
      isPlaced.add(door.id);
      const spot = { x: x.entry, y: free, w: w.entry, h: ENTRY_H };
      out.nodes.push({ column: "entry", node: door, ...spot });
      places.set(door.id, spot);
      free += ENTRY_H + GAP;
    }
    y = Math.max(bottom, free);
  }
  closeBand();
  for (const from of [...model.entries, ...model.services]) out.edges.push(...between(from, places));
  out.height = Math.max(y + PAD, 200);
  return out;
}

/** Puts boxes that want to be somewhere below one another, as near to where they want to be as that allows. */
function settle(wanted, top) {
  const rows = [];
  for (const one of wanted) {
    rows.push({ items: [one], h: one.h, at: (one.at ?? (rows.length ? bottomOf(rows.at(-1)) + GAP + one.h / 2 : top + one.h / 2)) - one.h / 2 });
    rows.at(-1).at = Math.max(rows.at(-1).at, top);
    while (rows.length > 1 && rows.at(-1).at < bottomOf(rows.at(-2)) + GAP) {
      const [b, a] = [rows.pop(), rows.pop()];
      const overlap = bottomOf(a) + GAP - b.at;
      const share = overlap * (b.items.length / (a.items.length + b.items.length));
      rows.push({ items: [...a.items, ...b.items], h: a.h + GAP + b.h, at: Math.max(top, a.at - share) });
    }
  }
  return rows.flatMap((row) => {
    let y = row.at;
    return row.items.map((one) => {
      const at = y + one.h / 2;
      y += one.h + GAP;
      return { ...one, at };
    });
  });
}
const bottomOf = (row) => row.at + row.h;

function between(from, places) {
  const a = places.get(from.id);
  return from.to.filter((id) => a && places.has(id)).map((id) => {
    const b = places.get(id);
    return { id: `${from.id}>${id}`, from: from.id, to: id, d: curve(a.x + a.w, a.y + a.h / 2, b.x, b.y + b.h / 2), is: from.kind === "Service" ? (from.nReady ? "ready" : "failing") : "ready" };
  });
}

/** The line from a workload to its pods: one each where pods have lines, one to the grid else. */
function toPods(workload, box, placed, { form, height }) {
  const [ax, ay] = [box.x + box.w, box.y + box.h / 2];
  if (form === "cell") {
    const top = placed[0].y;
    return [{ id: `${workload.id}>${podKey}`, from: workload.id, to: "", is: "ready", d: curve(ax, ay, placed[0].x - 8, top + height / 2) }];
  }
  return placed
    .filter((p) => p.x === placed[0].x)
    .map((p) => ({ id: `${workload.id}>${p.pod.id}`, from: workload.id, to: p.pod.id, is: p.pod.state.is, d: curve(ax, ay, p.x, p.y + p.h / 2) }));
}

function curve(ax, ay, bx, by) {
  const bend = Math.max(16, (bx - ax) / 2);
  return `M${r(ax)},${r(ay)}C${r(ax + bend)},${r(ay)} ${r(bx - bend)},${r(by)} ${r(bx)},${r(by)}`;
}
const r = (n) => Math.round(n * 10) / 10;

function narrow(model, width) {
  const out = { width, columns: [], bands: [], nodes: [], pods: [], edges: [], isNarrow: true };
  const inner = width - 24;
  const total = model.workloads.reduce((sum, one) => sum + one.pods.length, 0);
  const isPlaced = new Set();
  const places = new Map();
  let y = 12;
  const row = (column, node, x, w, h = ENTRY_H) => {
    const box = { x, y, w, h };
    out.nodes.push({ column, node, ...box });
    places.set(node.id, box);
    isPlaced.add(node.id);
    y += h + 10;
  };
  const doorsAnd = (service) => {
    const doors = model.entries.filter((e) => e.to.includes(service.id) && !isPlaced.has(e.id));
    doors.forEach((door) => row("entry", door, 12, inner));
    row("service", service, 12, inner);
  };
  for (const workload of model.workloads) {
    const before = y;
    model.services.filter((s) => s.to.includes(workload.id) && !isPlaced.has(s.id)).forEach(doorsAnd);
    row("workload", workload, 12, inner, WORK_H);
    const pods = block(workload, inner - 22, total);
    const placed = placePods(workload, pods, 34, y);
    out.pods.push(...placed);
    if (placed.length) {
      const spine = placed.at(-1).y + placed.at(-1).h / 2;
      out.edges.push({ id: `${workload.id}>pods`, from: workload.id, to: "", is: "ready", d: `M22,${y - 10}V${r(form(pods) ? y + 6 : spine)}` });
      if (!form(pods)) for (const p of placed) out.edges.push({ id: `${workload.id}>${p.pod.id}`, from: workload.id, to: p.pod.id, is: p.pod.state.is, d: `M22,${r(p.y + p.h / 2)}H34` });
      y += pods.height + 12;
    }
    for (const [id, box] of places) {
      if (box.y < before || id === workload.id || box.y > places.get(workload.id).y) continue;
      out.edges.push({ id: `${id}>down`, from: id, to: "", is: "ready", d: `M22,${box.y + box.h}v10` });
    }
    y += 12;
  }
  model.services.filter((s) => !isPlaced.has(s.id)).forEach(doorsAnd);
  model.entries.filter((e) => !isPlaced.has(e.id)).forEach((e) => row("entry", e, 12, inner));
  out.height = y + 20;
  return out;
}
const form = (pods) => pods.form === "cell";

/** Where the line from a workload to a grid of pods leads. */
export const podKey = "pods";

/** The thing that is next in a direction, for the arrow keys. */
export function next(boxes, from, direction) {
  const mid = (b) => [b.x + b.w / 2, b.y + b.h / 2];
  const [fx, fy] = mid(from);
  let best = null;
  for (const box of boxes) {
    if (box === from) continue;
    const [x, y] = mid(box);
    const [along, aside] = { ArrowRight: [x - fx, y - fy], ArrowLeft: [fx - x, y - fy], ArrowDown: [y - fy, x - fx], ArrowUp: [fy - y, x - fx] }[direction];
    if (along < 6) continue;
    const cost = along + 3 * Math.abs(aside);
    if (!best || cost < best.cost) best = { box, cost };
  }
  return best?.box ?? null;
}

export const MONO_LETTER = MONO;
