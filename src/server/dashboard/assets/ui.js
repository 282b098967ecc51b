// Small parts that several views use.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";

/** The sign of a state: a shape of its own, so that colour is not all there is. Drawn around 0,0. */
export function Sign({ is, r = 6 }) {
  const p = (points) => html`<polygon points=${points.map(([x, y]) => `${x * r},${y * r}`).join(" ")} />`;
  return html`<g class=${`sign is-${is}`}>
    ${{
      ready: () => html`<circle r=${r} /><path class="mark" d=${`M${-0.45 * r},${0.02 * r}l${0.32 * r},${0.34 * r}l${0.6 * r},${-0.68 * r}`} />`,
      done: () => html`<circle class="hollow" r=${r * 0.88} /><path class="mark" d=${`M${-0.42 * r},${0.02 * r}l${0.3 * r},${0.32 * r}l${0.56 * r},${-0.64 * r}`} />`,
      starting: () => html`<circle class="hollow turning" r=${r * 0.82} stroke-dasharray=${`${r * 1.7} ${r * 0.95}`} />`,
      failing: () => html`${p([[0, -1.08], [1.06, 0.84], [-1.06, 0.84]])}<path class="mark" d=${`M0,${-0.4 * r}v${0.62 * r}M0,${0.52 * r}v0.1`} />`,
      ending: () => html`<rect class="hollow" x=${-0.8 * r} y=${-0.8 * r} width=${1.6 * r} height=${1.6 * r} rx=${0.3 * r} /><path class="mark" d=${`M${-0.35 * r},0h${0.7 * r}`} />`,
      idle: () => html`<circle class="hollow" r=${r * 0.82} />`,
    }[is]?.()}
  </g>`;
}

/** A part of the page that is loaded when it is shown: what the first paint can do without. */
export const later = (load, name, meanwhile = null) =>
  function Later(props) {
    const [Part, setPart] = useState(null);
    useEffect(() => {
      load().then((module) => setPart(() => module[name]));
    }, []);
    return Part ? html`<${Part} ...${props} />` : meanwhile;
  };

/** The sign outside of the picture. */
export const Dot = ({ is, size = 14 }) => html`<svg class="dot" viewBox="-8 -8 16 16" width=${size} height=${size} aria-hidden="true"><${Sign} is=${is} r=${6.4} /></svg>`;

/** Icons, as paths in a square of 24. */
const ICONS = {
  close: "M6 6l12 12M18 6L6 18",
  open: "M14 4h6v6M20 4l-9 9M18 14v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1h5",
  search: "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14M16 16l5 5",
  map: "M4 5h5v5H4zM15 3h5v5h-5zM15 10h5v5h-5zM15 17h5v4h-5zM9 7.5h3v-2h3M12 7.5v5h3M12 12.5V19h3",
  table: "M4 5h16v14H4zM4 10h16M4 14.500h16M10 5v14",
  sun: "M12 8a4 4 0 1 0 0 8a4 4 0 0 0 0-8M12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  moon: "M20 14.500A8.500 8.500 0 1 1 9.500 4a7 7 0 0 0 10.500 10.500",
  auto: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 3v18M12 8.500h7.500M12 12h9M12 15.500h7.500",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  restart: "M20 12a8 8 0 1 1-2.500-5.800M20 3v5h-5",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7l-12 7z",
  undo: "M4 10h10a6 6 0 0 1 0 12h-3M4 10l5-5M4 10l5 5",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  rocket: "M12 3c4 2 5 6 5 10l2 3h-4a3 3 0 0 1-6 0H5l2-3c0-4 1-8 5-10M12 9v1",
  down: "M6 9l6 6l6-6",
  up: "M6 15l6-6l6 6",
  clock: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 7v5l3 3",
};
export const Icon = ({ name, size = 16 }) => html`<svg class="icon" viewBox="0 0 24 24" width=${size} height=${size} aria-hidden="true"><path d=${ICONS[name]} /></svg>`;

/** Text that a click copies. */
export function Copy({ text, label }) {
  const button = useRef();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
      button.current?.classList.add("copied");
      setTimeout(() => button.current?.classList.remove("copied"), 1200);
    } catch {
      say("This browser does not let a page copy: select the line instead");
    }
  };
  return html`<button type="button" class="copy" ref=${button} onClick=${copy} title=${`Copy ${label ?? "it"}`} aria-label=${`Copy ${label ?? text}`}><${Icon} name="copy" size=${14} /></button>`;
}

/** Says a sentence to those who listen to the page. */
export function say(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text;
}

/** Asks before something that cannot be taken back. */
export function Ask({ title, text, action, onYes, onNo }) {
  const dialog = useRef();
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} class="ask" onClose=${onNo} aria-labelledby="ask-title">
    <h2 id="ask-title">${title}</h2>
    <p>${text}</p>
    <div class="row">
      <button type="button" onClick=${() => dialog.current.close()}>Keep it</button>
      <button type="button" class="danger" onClick=${onYes}>${action}</button>
    </div>
  </dialog>`;
}

/** Milliseconds as people read them. */
export const inMs = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : ms < 10000 ? `${(ms / 1000).toFixed(2)} s` : `${Math.round(ms / 1000)} s`);
