// The page: signs in, follows the cluster, and shows it. What is looked at is in the address line, so that it can be kept and sent.

import { html, render, useCallback, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import * as actions from "./actions.js";
import { signIn } from "./api.js";
import { Cluster } from "./cluster.js";
import { Picture } from "./map.js";
import { isSystem, picture, summary } from "./model.js";
import { Panel } from "./panel.js";
import { History, Replay } from "./replay.js";
import { Stories, answered, sentence, tell, worthTelling } from "./story.js";
import { Traffic } from "./traffic.js";
import { Table } from "./table.js";
import { Dot, Icon, say } from "./ui.js";

/** How long a pod that something happened to stands out. */
const HIT_MS = 1600;
const TICK_MS = 5000;

/** What the address line says: what is selected, how it is looked at, and what is shown. */
function readPlace() {
  const at = new URLSearchParams(location.hash.slice(1));
  return { id: at.get("at") ?? "", view: at.get("view") ?? "overview", as: at.get("as") ?? "map", ns: at.has("ns") ? at.get("ns") : null, text: at.get("q") ?? "" };
}

function hashOf({ id, view, as, ns, text }) {
  const at = new URLSearchParams();
  if (id) at.set("at", id);
  if (id && view !== "overview") at.set("view", view);
  if (as !== "map") at.set("as", as);
  if (ns !== null) at.set("ns", ns);
  if (text) at.set("q", text);
  // Names are read by people.
  return `#${at.toString().replaceAll("%2F", "/").replaceAll("%3A", ":")}`;
}

function usePlace() {
  const [place, setPlace] = useState(readPlace);
  useEffect(() => {
    const read = () => setPlace(readPlace());
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }, []);
  const go = useCallback((change) => {
    const to = { ...readPlace(), ...change };
    history.replaceState(null, "", hashOf(to));
    setPlace(to);
  }, []);
  return [place, go];
}

const THEMES = ["auto", "light", "dark"];
function useTheme() {
  const [theme, setTheme] = useState(() => {
    try {
      return localStorage.getItem("skiff-theme") ?? "auto";
    } catch {
      return "auto";
    }
  });
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("skiff-theme", theme);
    } catch {
      // A browser that keeps nothing asks again.
    }
  }, [theme]);
  return [theme, () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length])];
}

function useCluster(onSignedOut) {
  const [, setFrame] = useState(0);
  const [stories, setStories] = useState([]);
  const [hit, setHit] = useState(() => new Set());
  const [now, setNow] = useState(Date.now);
  const told = useRef([]);
  const history = useMemo(() => new History(), []);
  const traffic = useMemo(() => new Traffic(), []);
  /** Takes a list of stories in; the connections that followed a heal belong to it. */
  const keep = (stories) => {
    const whole = answered(stories, traffic);
    if (whole === told.current) return false;
    told.current = whole;
    setStories(whole);
    return true;
  };
  const cluster = useMemo(
    () =>
      new Cluster({
        changed: () => setFrame((n) => n + 1),
        signedOut: onSignedOut,
        seen: (change) => {
          history.record(change);
          const before = told.current;
          if (!keep(tell(before, change))) return;
          const healed = told.current.find((s) => s.isDone && !before.find((b) => b.id === s.id)?.isDone);
          if (healed) say(sentence(healed));
          const { uid } = change.object.metadata;
          setHit((known) => new Set(known).add(uid));
          setTimeout(() => setHit((known) => new Set([...known].filter((one) => one !== uid))), HIT_MS);
        },
      }),
    [],
  );
  useEffect(() => {
    cluster.follow().catch((err) => (err.code === 401 ? onSignedOut() : setTimeout(() => location.reload(), TICK_MS)));
    traffic.follow();
    const silence = traffic.listen(() => keep(told.current));
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => {
      silence();
      clearInterval(timer);
    };
  }, [cluster]);
  const forget = () => {
    told.current = [];
    setStories([]);
  };
  return { cluster, stories, hit, now, forget, history, traffic };
}

/** The picture of now, the same one as long as the cluster is; or that of a moment before. */
function usePicture(cluster, place, history, moment) {
  const all = (kind) => cluster.all(kind);
  const filter = { namespace: place.ns, text: place.text };
  return useMemo(() => picture(moment === null ? all : history.at(moment, all), filter), [moment ?? cluster.version, place.ns, place.text]);
}

function Page({ session, onSignedOut }) {
  const [place, go] = usePlace();
  const [theme, nextTheme] = useTheme();
  const { cluster, stories, hit, now, forget, history, traffic } = useCluster(onSignedOut);
  const [moment, setMoment] = useState(null);
  const [problem, setProblem] = useState(null);
  const model = usePicture(cluster, place, history, moment);
  const sum = summary(model);
  const search = useRef();
  const hrefOf = (node, view = "overview") => hashOf({ ...place, id: node.id ?? node.pod?.id, view });
  const close = () => {
    const was = place.id;
    go({ id: "", view: "overview" });
    document.querySelector(`[data-id="${CSS.escape(was)}"]`)?.focus();
  };
  useEffect(() => {
    document.title = `${sum.is === "failing" ? "▲ " : sum.is === "starting" ? "… " : ""}${session.cluster} · skiff`;
  }, [sum.is]);
  useEffect(() => {
    const onKey = (event) => {
      const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
        if (isTyping) event.target.blur();
        else if (readPlace().id) close();
      }
      if (event.key === "/" && !isTyping) {
        event.preventDefault();
        search.current.focus();
      }
      if (event.key === "t" && !isTyping && !event.ctrlKey && !event.metaKey) go({ as: readPlace().as === "map" ? "table" : "map" });
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
  const onScale = async (workload, by) => {
    try {
      setProblem(null);
      const wanted = cluster.find(workload.kind, workload.ns, workload.name)?.spec.replicas ?? workload.wanted;
      await actions.scale(workload, Math.max(0, wanted + by));
      say(`${workload.name} scaled to ${Math.max(0, wanted + by)}`);
    } catch (err) {
      setProblem(err.message);
    }
  };
  const { state } = cluster;
  const namespaces = [...new Set(["Pod", "Service", "Deployment", "DeploymentConfig", "Event"].flatMap((k) => cluster.all(k).map((o) => o.metadata.namespace)))].filter(Boolean).sort();
  const isEmpty = state !== "loading" && !model.workloads.length && !model.services.length && !model.entries.length;
  const canChange = session.role !== "view" && moment === null;
  return html`<div class=${`page ${place.id ? "with-panel" : ""}`}>
    <header class="bar">
      <h1><svg viewBox="0 0 64 64" width="30" height="30" aria-hidden="true"><rect width="64" height="64" rx="14" class="hull" /><path d="M31 10v29H13z" class="sail" /><path d="M35 17v22h15z" class="jib" /><path d="M9 43h46l-7 11H17z" class="boat" /></svg><span>skiff</span> <small>${session.cluster}</small></h1>
      <div class="tools">
        <select value=${place.ns ?? "*"} onChange=${(e) => go({ ns: e.target.value === "*" ? null : e.target.value })} aria-label="Namespace">
          <option value="*">your namespaces</option>
          <option value="">all namespaces</option>
          ${namespaces.map((ns) => html`<option key=${ns} value=${ns}>${ns}${isSystem(ns) ? " (system)" : ""}</option>`)}
        </select>
        <label class="field"><${Icon} name="search" size=${14} /><input ref=${search} type="search" value=${place.text} onInput=${(e) => go({ text: e.target.value })} placeholder="name, kind:job, app=web" aria-label="Filter by name, kind or label" /><kbd aria-hidden="true">/</kbd></label>
        <div class="switch" role="group" aria-label="View">
          <button type="button" aria-pressed=${place.as === "map" ? "true" : "false"} onClick=${() => go({ as: "map" })}><${Icon} name="map" /> <span>Map</span></button>
          <button type="button" aria-pressed=${place.as === "table" ? "true" : "false"} onClick=${() => go({ as: "table" })}><${Icon} name="table" /> <span>Table</span></button>
        </div>
        <button type="button" class="plain" aria-pressed=${moment === null ? "false" : "true"} onClick=${() => setMoment(moment === null ? Date.now() : null)} aria-label="Replay the last minutes" title="Replay the last minutes"><${Icon} name="clock" /></button>
        <button type="button" class="plain" onClick=${nextTheme} aria-label=${`Colours: ${theme}`} title=${`Colours: ${theme}`}><${Icon} name=${theme === "light" ? "sun" : theme === "dark" ? "moon" : "auto"} /></button>
        <span class=${`live ${state}`} title=${`${session.user} on ${session.server}`}><i></i>${{ live: "live", loading: "loading", away: "reconnecting" }[state]}</span>
      </div>
    </header>
    <p class=${`summary is-${sum.is}`}>
      ${state === "loading" ? "Looking…" : html`<${Dot} is=${sum.is} size=${18} /> <span>${sum.text}</span>
      ${[...sum.failing, ...sum.moving].slice(0, 4).map((w) => html`<a key=${w.id} class=${`is-${w.state.is}`} href=${hrefOf(w)}>${w.name} <small>${w.state.text}</small></a>`)}`}
      ${session.role === "view" && html`<em>You may look and change nothing</em>`}
    </p>
    ${state === "away" && html`<p class="away" role="alert">skiff does not answer. Your containers and Services run on; this page comes back by itself.</p>`}
    ${problem && html`<p class="problem" role="alert">${problem} <button type="button" class="plain" onClick=${() => setProblem(null)} aria-label="Close"><${Icon} name="close" /></button></p>`}
    <main>
      ${["Pod", "Service", "Deployment"].every((kind) => cluster.forbidden.has(kind))
        ? html`<div class="nothing"><h2>You may see nothing here</h2><p>The ClusterRole ${session.role} lets its users see no pods, Services and Deployments in all namespaces, or there is no such role. skiff was started with --dashboard-as ${session.role}.</p></div>`
        : isEmpty
        ? html`<${Nothing} hasFilter=${Boolean(place.text) || place.ns !== null} clear=${() => go({ text: "", ns: null })} />`
        : place.as === "table"
          ? html`<${Table} model=${model} hrefOf=${hrefOf} now=${now} selected=${place.id} />`
          : html`<${Picture} model=${model} selected=${place.id} hrefOf=${hrefOf} onScale=${canChange ? onScale : () => setProblem(moment === null ? "You may look and change nothing" : "This is the past: go back to now first")} hit=${hit} traffic=${moment === null ? traffic : null} />`}
    </main>
    ${place.id && html`<${Panel} id=${place.id} view=${place.view} model=${model} cluster=${cluster} now=${now} hrefOf=${hrefOf} onClose=${close} canChange=${canChange} traffic=${traffic} />`}
    <div class="dock">
    ${moment !== null && html`<${Replay} history=${history} moment=${moment} stories=${worthTelling(stories)} onMoment=${setMoment} onEnd=${() => setMoment(null)} />`}
    <${Stories} stories=${stories} hrefOf=${(s) => hashOf({ ...place, id: s.about === "pod" ? `Pod/${s.ns}/${s.by}` : `Pod/${s.ns}/${s.pod}`, view: "overview" })} onClose=${forget} />
    </div>
  </div>`;
}

function Nothing({ hasFilter, clear }) {
  if (hasFilter) return html`<div class="nothing"><h2>Nothing matches</h2><button type="button" onClick=${clear}>Show everything</button></div>`;
  return html`<div class="nothing">
    <svg viewBox="0 0 120 80" width="180" height="120" aria-hidden="true"><path d="M58 8v42H30z" class="sail" /><path d="M64 18v32h22z" class="jib" /><path d="M20 55h80l-11 14H32z" class="boat" /><path d="M4 74q14-7 28 0t28 0t28 0t28 0" class="sea" /></svg>
    <h2>The sea is calm</h2>
    <p>Nothing runs here yet. In a terminal:</p>
    <pre>kubectl create deployment web --image=nginx --replicas=3
kubectl expose deployment web --port=80 --type=NodePort</pre>
  </div>`;
}

function SignedOut() {
  return html`<div class="nothing door">
    <svg viewBox="0 0 64 64" width="72" height="72" aria-hidden="true"><rect width="64" height="64" rx="14" class="hull" /><path d="M31 10v29H13z" class="sail" /><path d="M35 17v22h15z" class="jib" /><path d="M9 43h46l-7 11H17z" class="boat" /></svg>
    <h1>Come aboard</h1>
    <p>A link opens this page once. This one was used, or is older than an hour. In a terminal:</p>
    <pre>skiff open</pre>
  </div>`;
}

function App({ first }) {
  const [session, setSession] = useState(first);
  useEffect(() => {
    // A link that is opened in a page that is there already.
    const read = async () => {
      if (!location.hash.startsWith("#token=")) return;
      setSession((await signIn()) ?? null);
    };
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }, []);
  return session ? html`<${Page} session=${session} onSignedOut=${() => setSession(null)} />` : html`<${SignedOut} />`;
}

const place = document.getElementById("page");
try {
  sessionStorage.removeItem("skiff-boots");
  document.documentElement.dataset.theme = localStorage.getItem("skiff-theme") ?? "auto";
} catch {
  // As the browser has it.
}
signIn().then(
  (session) => render(html`<${App} first=${session} />`, place),
  (err) => render(html`<div class="nothing door"><h1>skiff does not answer</h1><p>${err.message}</p></div>`, place),
);
