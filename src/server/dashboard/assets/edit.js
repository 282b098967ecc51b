// An object as YAML: to read, and to change. The server's dry run checks each draft, and what would change is shown before it is applied.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { ask, getText } from "./api.js";
import { say } from "./ui.js";

const YAML = "application/yaml";
/** How long a draft rests before it is checked. */
const REST_MS = 500;

/** Without what only machines read. */
export const readable = (yaml) => yaml.replace(/^ {2}managedFields:\n(?:(?: {2}- | {4}).*\n)*/m, "");

/** What differs between two texts, line by line: those that went (-), came (+) and stayed ( ). */
export function diff(before, after) {
  const [a, b] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const [x, y] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  // The longest common lines, by the lengths of what is left.
  const longest = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
  for (let i = x.length - 1; i >= 0; i--) {
    for (let j = y.length - 1; j >= 0; j--) longest[i][j] = x[i] === y[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  }
  const out = a.slice(0, start).map((text) => ({ sign: " ", text }));
  let [i, j] = [0, 0];
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) {
      out.push({ sign: " ", text: x[i] });
      i++;
      j++;
    } else if (i < x.length && (j >= y.length || longest[i + 1][j] >= longest[i][j + 1])) out.push({ sign: "-", text: x[i++] });
    else out.push({ sign: "+", text: y[j++] });
  }
  return out.concat(a.slice(a.length - end).map((text) => ({ sign: " ", text })));
}

/** A diff with a few lines around what differs. */
export function hunks(lines, around = 2) {
  const near = new Set();
  lines.forEach(({ sign }, i) => {
    if (sign !== " ") for (let k = i - around; k <= i + around; k++) near.add(k);
  });
  const out = [];
  lines.forEach((line, i) => {
    if (near.has(i)) out.push(line);
    else if (out.length && out.at(-1).sign !== "…") out.push({ sign: "…", text: "" });
  });
  return out;
}

/** What changes by itself and says nothing about a change. */
const quiet = (yaml) => yaml.replace(/^ {2}(resourceVersion|generation): .*\n/gm, "");

/**
 * What is sent for a draft. Only a change of what somebody wants is in the way of another one, and not each new status: while the
 * generation is the same, the draft stands whatever the revision is by now.
 */
export const unconditional = (draft, before, now) => (now !== undefined && before === now ? draft.replace(/^ {2}resourceVersion: .*\n/m, "") : draft);

export function Yaml({ path, metadata, canChange }) {
  const [live, setLive] = useState(null);
  const [draft, setDraft] = useState(null);
  const [verdict, setVerdict] = useState(null);
  const [problem, setProblem] = useState(null);
  const number = useRef(0);
  const generation = useRef();
  const version = metadata.resourceVersion;
  const load = async () => {
    try {
      setLive(readable(await getText(path, { accept: YAML })));
      setProblem(null);
    } catch (err) {
      setProblem(err.message);
    }
  };
  useEffect(() => {
    setDraft(null);
    setVerdict(null);
    setLive(null);
  }, [path]);
  useEffect(() => {
    if (draft === null) load();
  }, [path, version, draft === null]);
  const send = async (dryRun) => {
    const query = "?fieldValidation=Strict&fieldManager=skiff-dashboard";
    const body = unconditional(draft, generation.current, metadata.generation);
    const put = (isDry, accept) => ask("PUT", path + query + (isDry ? "&dryRun=All" : ""), { body, type: YAML, accept });
    try {
      return readable(await (await put(dryRun, YAML)).text());
    } catch (err) {
      // Who takes YAML is refused in YAML; the causes are read from JSON.
      if (err.code) await put(true, "application/json");
      throw err;
    }
  };
  useEffect(() => {
    if (draft === null || draft === live) return setVerdict(null);
    const mine = ++number.current;
    const timer = setTimeout(async () => {
      let found;
      try {
        found = { changes: hunks(diff(quiet(live), quiet(await send(true)))) };
      } catch (err) {
        found = { error: err };
      }
      if (mine === number.current) setVerdict(found);
    }, REST_MS);
    return () => clearTimeout(timer);
  }, [draft]);
  const begin = () => {
    generation.current = metadata.generation;
    setDraft(live);
  };
  const apply = async () => {
    try {
      await send(false);
      say("Applied");
      setDraft(null);
    } catch (err) {
      setVerdict({ error: err });
    }
  };
  if (problem) return html`<p class="problem">${problem}</p>`;
  if (live === null) return html`<p class="hint">…</p>`;
  const text = draft ?? live;
  const n = text.split("\n").length;
  return html`<div class="yaml">
    ${canChange && html`<div class="bar">
      ${draft === null
        ? html`<button type="button" onClick=${begin}>Edit</button>`
        : html`<button type="button" onClick=${() => setDraft(null)}>Discard</button>
            <button type="button" class="primary" disabled=${!verdict?.changes?.length} onClick=${apply}>Apply</button>
            <span class="hint" role="status">${verdict === null ? (draft === live ? "Change something: the server checks it as you type" : "…") : verdict.error ? "The server would refuse this" : verdict.changes.length ? "The server would take this" : "Nothing would change"}</span>`}
    </div>`}
    ${verdict?.error &&
    html`<div class="problem" role="alert">
      ${verdict.error.causes.length
        ? html`<ul>${verdict.error.causes.map((c, i) => html`<li key=${i}>${c.field && html`<code>${c.field}</code>`} ${c.message}</li>`)}</ul>`
        : html`<p>${verdict.error.code === 409 ? "It was changed meanwhile: discard your draft to see how" : verdict.error.message}</p>`}
    </div>`}
    ${verdict?.changes?.length > 0 && html`<pre class="diff" aria-label="What would change">${verdict.changes.map((l, i) => html`<div key=${i} class=${{ "+": "came", "-": "went", " ": "stays", "…": "gap" }[l.sign]}>${l.sign} ${l.text}</div>`)}</pre>`}
    <div class="sheet">
      <pre class="numbers" aria-hidden="true">${Array.from({ length: n }, (_, i) => `${i + 1}\n`).join("")}</pre>
      <textarea spellcheck="false" wrap="off" rows=${n} readonly=${draft === null} value=${text} onInput=${(e) => setDraft(e.target.value)} aria-label=${draft === null ? "YAML" : "YAML, being edited"}></textarea>
    </div>
  </div>`;
}
