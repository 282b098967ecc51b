// What happened, told with milliseconds: a container that ended and was made anew, a pod that was replaced. The reducer is pure: it is
// told every change with the moment at which this page heard of it.

import { html } from "./vendor/preact.js";
import { ended } from "./model.js";
import { Icon, inMs } from "./ui.js";

/** Stories that are kept, and how long one waits for its next chapter. */
const STORIES_MAX = 30;
const LOST_MS = 60_000;
/** A pod that goes and is not replaced within this was not missed: somebody wanted fewer. */
const REPLACED_MS = 4000;

/** What the node knows of a container's last restart, by the engine's clock. */
function restartOf(pod, container, count) {
  try {
    const told = JSON.parse(pod.metadata.annotations?.["skiff.dev/restarts"] ?? "{}")[container];
    return told?.restart === count ? told : null;
  } catch {
    return null;
  }
}

/**
 * The moments of a restart: the engine's own where they are known, and else when this page heard of them. Clocks that are further apart
 * than the story is long would tell nonsense, so that then it is the page's alone.
 */
export function moments(heard, told) {
  if (!told) return heard;
  const at = (name) => (told[name] ? { name, at: Date.parse(told[name]) } : null);
  const engine = ["killed", "ended", "created", "started"].map(at).filter(Boolean);
  const all = [...engine, ...heard.filter((m) => m.name === "ready")];
  const isInOrder = all.every((m, i) => !i || m.at >= all[i - 1].at);
  return isInOrder && heard[0].at - engine[0].at < 10_000 ? all : heard;
}

const statusOf = (pod, name) => pod?.status?.containerStatuses?.find((c) => c.name === name);
const ownerOf = (pod) => pod.metadata.ownerReferences?.find((o) => o.controller)?.uid;
const isReady = (pod) => pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True");

/** The stories after a change of a pod. Newest first; a new list where something was new. */
export function tell(stories, { kind, type, object: pod, old, at }) {
  if (kind !== "Pod") return stories;
  const out = stories.filter((s) => s.isDone || at - s.marks[0].at < (s.about === "pod" && s.marks.length === 1 ? REPLACED_MS : LOST_MS));
  let isNew = out.length !== stories.length;
  const put = (story, marks, more = {}) => {
    const index = out.indexOf(story);
    out[index] = { ...story, ...more, marks: [...story.marks, ...marks] };
    isNew = true;
    return out[index];
  };
  const has = (story, name) => story.marks.some((m) => m.name === name);
  const open = (story) => {
    out.unshift(story);
    out.length = Math.min(out.length, STORIES_MAX);
    isNew = true;
  };
  const { uid, name, namespace } = pod.metadata;
  if (old && type === "MODIFIED") {
    for (const now of pod.status?.containerStatuses ?? []) {
      const before = statusOf(old, now.name);
      if (!before) continue;
      const isAnother = now.containerID && before.containerID && now.containerID !== before.containerID;
      const hasEnded = now.state?.terminated && before.state?.running;
      let story = out.find((s) => s.uid === uid && s.container === now.name && !s.isDone);
      if (!story && before.state?.running && (isAnother || hasEnded) && !pod.metadata.deletionTimestamp) {
        const end = now.state?.terminated ?? now.lastState?.terminated ?? {};
        open({ id: `${uid}/${now.name}/${before.restartCount}`, about: "container", uid, pod: name, ns: namespace, container: now.name, cause: ended(end), code: end.exitCode, marks: [{ name: "noticed", at }], isDone: false });
        story = out[0];
      }
      if (!story) continue;
      if (now.state?.running && isAnother && !has(story, "started")) story = put(story, [{ name: "started", at }]);
      else if (now.state?.running && before.state?.terminated && !has(story, "started")) story = put(story, [{ name: "started", at }]);
      if (now.ready && now.state?.running && has(story, "started")) {
        story = put(story, [{ name: "ready", at }], { isDone: true });
        const index = out.indexOf(story);
        out[index] = { ...story, marks: moments(story.marks, restartOf(pod, now.name, now.restartCount)) };
      }
    }
  }
  if (old && pod.metadata.deletionTimestamp && !old.metadata.deletionTimestamp && ownerOf(pod)) {
    open({ id: `${uid}/pod`, about: "pod", uid, owner: ownerOf(pod), pod: name, ns: namespace, cause: "deleted", marks: [{ name: "deleted", at }], isDone: false });
  }
  if (type === "ADDED" && ownerOf(pod)) {
    const story = out.findLast((s) => s.about === "pod" && !s.isDone && !s.successor && s.owner === ownerOf(pod));
    if (story) put(story, [{ name: "created", at }], { successor: uid, by: name });
  }
  const replaced = out.find((s) => s.successor === uid && !s.isDone);
  if (replaced) {
    let story = replaced;
    if (!has(story, "started") && (pod.status?.containerStatuses ?? []).length && pod.status.containerStatuses.every((c) => c.state?.running)) story = put(story, [{ name: "started", at }]);
    if (isReady(pod)) put(story, [{ name: "ready", at }], { isDone: true });
  }
  return isNew ? out : stories;
}

/** Clocks of the engine and of the data plane are the machine's, and a browser hears of a loss a little before its story begins. */
const BEFORE_MS = 2000;

/** The stories with the first connection after each, and how many were lost until then; the same list where nothing is new. */
export function answered(stories, traffic) {
  let isNew = false;
  const out = stories.map((story) => {
    if (!story.isDone || story.served) return story;
    const uid = story.successor ?? story.uid;
    const began = story.marks[0].at;
    const replies = traffic.all().filter(({ object }) => object.podUID === uid && object.firstReply);
    const served = Math.min(...replies.map(({ object }) => Date.parse(object.firstReply)).filter((at) => at >= began));
    if (served === Infinity) return story;
    isNew = true;
    return { ...story, served, lost: traffic.lostSince(story.uid, began - BEFORE_MS) };
  });
  return isNew ? out : stories;
}

export const lasted = (story) => story.marks.at(-1).at - story.marks[0].at;

/** A story in a sentence. */
export function sentence(story) {
  const time = inMs(lasted(story));
  if (story.about === "pod") return story.isDone ? `${story.pod} was replaced by ${story.by} in ${time}` : `${story.pod} is being replaced`;
  return story.isDone ? `${story.container} in ${story.pod} was ${story.cause}, and healed in ${time}` : `${story.container} in ${story.pod} was ${story.cause}`;
}

/** Stories that are worth telling: one about a pod only once it has a successor. */
export const worthTelling = (stories) => stories.filter((s) => s.about !== "pod" || s.successor);

export function Stories({ stories, hrefOf, onClose }) {
  const told = worthTelling(stories);
  if (!told.length) return null;
  return html`<section class="stories" aria-label="What happened">
    <header><h2>What happened</h2><button type="button" class="plain" onClick=${onClose} aria-label="Forget what happened"><${Icon} name="close" /></button></header>
    <ol>
      ${told.map((story) => html`<li key=${story.id}><${Card} story=${story} href=${hrefOf(story)} /></li>`)}
    </ol>
  </section>`;
}


function Card({ story, href }) {
  const { marks } = story;
  const total = Math.max(1, lasted(story));
  const parts = marks.slice(1).map((m, i) => ({ name: m.name, ms: m.at - marks[i].at, at: m.at - marks[0].at }));
  return html`<a class=${`story ${story.isDone ? "done" : "open"}`} href=${href}>
    <span class="title">
      <b>${story.about === "pod" ? (story.isDone ? "Pod replaced" : "Pod is replaced") : story.isDone ? "Container healed" : "Container ended"}</b>
      <strong>${story.isDone ? inMs(total) : "…"}</strong>
    </span>
    <span class="who">${story.about === "pod" ? story.pod : `${story.container} in ${story.pod}`}</span>
    <span class="cause">${story.about === "pod" ? `→ ${story.by}` : story.cause}</span>
    <span class="bar" aria-hidden="true">${parts.map((p) => html`<i key=${p.name} class=${`to-${p.name}`} style=${{ flexGrow: Math.max(p.ms / total, 0.06) }}></i>`)}</span>
    ${story.served && html`<span class="served">first connection <b>+${inMs(story.served - marks[0].at)}</b> · ${story.lost ? html`<b class="is-failing">${story.lost} lost</b>` : "none lost"}</span>`}
    <span class="marks">${marks.map((m, i) => html`<span key=${m.name} class=${`to-${m.name}`}>${m.name} <b>${i ? `+${inMs(m.at - marks[0].at)}` : "0"}</b></span>`)}</span>
  </a>`;
}
