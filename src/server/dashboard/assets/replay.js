// The last minutes again: every change that this page heard of is kept, so that the picture can be taken back to any moment of them.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { Icon } from "./ui.js";

/** How long changes are kept, and how many. */
const KEPT_MS = 10 * 60_000;
const CHANGES_MAX = 3000;
/** How fast it runs. */
const SPEEDS = [1, 4, 16];

export class History {
  constructor() {
    this.changes = [];
  }

  record({ kind, object, old, type, at }) {
    if (kind === "Event") return;
    this.changes.push({ kind, uid: object.metadata.uid, before: old, after: type === "DELETED" ? undefined : object, at });
    const first = this.changes.findIndex((c) => c.at >= at - KEPT_MS);
    const excess = Math.max(first, this.changes.length - CHANGES_MAX);
    if (excess > 0) this.changes.splice(0, excess);
  }

  /** When it begins. */
  get start() {
    return this.changes[0]?.at ?? Date.now();
  }

  /** The objects of a moment: those of now, with what came after taken back. */
  at(moment, now) {
    const then = new Map();
    for (let i = this.changes.length - 1; i >= 0 && this.changes[i].at > moment; i--) {
      const { kind, uid, before } = this.changes[i];
      if (!then.has(kind)) then.set(kind, new Map(now(kind).map((o) => [o.metadata.uid, o])));
      if (before) then.get(kind).set(uid, before);
      else then.get(kind).delete(uid);
    }
    return (kind) => (then.has(kind) ? [...then.get(kind).values()] : now(kind));
  }
}

/** The slider over the last minutes. */
export function Replay({ history, moment, stories, onMoment, onEnd }) {
  const [speed, setSpeed] = useState(0);
  const frame = useRef(0);
  const end = useRef(Date.now());
  const start = Math.min(history.start, end.current - 1000);
  useEffect(() => {
    if (!speed) return;
    let [last, at] = [performance.now(), moment];
    const step = (now) => {
      at = Math.min(at + (now - last) * speed, end.current);
      last = now;
      onMoment(at);
      if (at < end.current) frame.current = requestAnimationFrame(step);
      else setSpeed(0);
    };
    frame.current = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame.current);
  }, [speed]);
  const share = (at) => `${(((at - start) / (end.current - start)) * 100).toFixed(2)}%`;
  const time = new Date(moment);
  const pad = (n, width = 2) => String(n).padStart(width, "0");
  const text = `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(time.getMilliseconds(), 3)}`;
  return html`<section class="replay" aria-label="Replay">
    <button type="button" onClick=${() => { if (!speed && moment >= end.current) onMoment(start); setSpeed(speed ? 0 : SPEEDS[1]); }} aria-label=${speed ? "Pause" : "Play"}><${Icon} name=${speed ? "pause" : "play"} /></button>
    ${SPEEDS.map((s) => html`<button key=${s} type="button" class="speed" aria-pressed=${speed === s ? "true" : "false"} onClick=${() => setSpeed(s)}>${s}×</button>`)}
    <div class="track">
      ${stories.filter((s) => s.marks[0].at >= start && s.marks[0].at <= end.current).map((s) => html`<i key=${s.id} style=${{ left: share(s.marks[0].at) }}></i>`)}
      <input type="range" min=${start} max=${end.current} step="10" value=${moment} onInput=${(e) => { setSpeed(0); onMoment(Number(e.target.value)); }} aria-label="Moment" aria-valuetext=${text} />
    </div>
    <time class="mono">${text}</time>
    <button type="button" class="primary" onClick=${onEnd}>Back to now</button>
  </section>`;
}
