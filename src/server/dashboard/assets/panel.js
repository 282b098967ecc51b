// What is known of one thing: how it is and why, its log, its Events, its YAML, and what can be done with it.

import { html, useEffect, useMemo, useState } from "./vendor/preact.js";
import * as actions from "./actions.js";
import { pathOf } from "./api.js";
import { KINDS } from "./cluster.js";
import { Yaml } from "./edit.js";
import { LastLines, Logs, sourcesOf } from "./logs.js";
import { Ring } from "./map.js";
import { age, containerState, counted, ended } from "./model.js";
import { plot, rate } from "./traffic.js";
import { Ask, Copy, Dot, Icon, later, say } from "./ui.js";

/** How often the plots move on. */
const PLOT_MS = 1000;

const TABS = { overview: "Overview", logs: "Log", shell: "Shell", events: "Events", yaml: "YAML" };

/** The thing that a part of the picture stands for. */
export function find(model, cluster, id) {
  const [kind, ns, name] = id.split("/");
  const workload = model.workloads.find((w) => w.id === id && w.kind !== "Pod");
  if (workload) return { kind, ns, name, object: workload.object, workload, pods: workload.pods, is: workload.state.is, text: workload.state.text };
  for (const w of model.workloads) {
    const pod = w.pods.find((p) => p.id === id);
    if (pod) return { kind: "Pod", ns, name, object: pod.object, pods: [pod], pod, owner: w, is: pod.state.is, text: pod.state.text };
  }
  const entry = model.entries.find((e) => e.id === id);
  const service = model.services.find((s) => s.id === (entry?.to[0] ?? id));
  const routed = entry && ["Ingress", "Route"].includes(entry.kind);
  if (entry && routed) return { kind: entry.kind, ns, name: entry.object.metadata.name, object: entry.object, entry, service, pods: [], is: service?.nReady ? "ready" : "idle", text: entry.name };
  if (service) return { kind: "Service", ns: service.ns, name: service.name, object: service.object, entry, service, pods: [], is: service.nReady ? "ready" : "idle", text: `${service.nReady} of ${service.nAll} endpoints ready` };
  const object = KINDS[kind] && cluster.find(kind, ns, name);
  return object ? { kind, ns, name, object, pods: [], is: "idle", text: "" } : null;
}

export function Panel({ id, view, model, cluster, now, hrefOf, go, onClose, canChange, traffic }) {
  const found = useMemo(() => find(model, cluster, id), [model, id]);
  const [asking, setAsking] = useState(null);
  const [problem, setProblem] = useState(null);
  const [last, setLast] = useState(null);
  useEffect(() => {
    setProblem(null);
    setLast(null);
    document.querySelector(".panel")?.scrollTo(0, 0);
  }, [id]);
  useEffect(() => {
    if (found) setLast(found);
  }, [found]);
  const it = found ?? last;
  if (!it) {
    return html`<aside class="panel" aria-label="Details"><${Top} it=${{ kind: "", name: id.split("/").pop(), is: "idle", text: "There is no such thing now" }} onClose=${onClose} /></aside>`;
  }
  const attempt = async (said, work) => {
    setProblem(null);
    try {
      await work();
      say(said);
    } catch (err) {
      setProblem(err.message);
    }
  };
  const runs = it.pod?.object.status?.containerStatuses?.some((c) => c.state?.running);
  const isThere = { logs: it.pods.length || it.workload, shell: canChange && (runs || view === "shell") && it.pod };
  const tabs = Object.keys(TABS).filter((t) => !(t in isThere) || isThere[t]);
  const shown = tabs.includes(view) ? view : "overview";
  return html`<aside class="panel" aria-label=${`${it.kind} ${it.name}`}>
    <${Top} it=${found ? it : { ...it, is: "ending", text: "It is gone" }} onClose=${onClose} />
    ${canChange && found && html`<${Buttons} it=${it} attempt=${attempt} ask=${setAsking} />`}
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <nav class="tabs" aria-label="Views">
      ${tabs.map((t) => html`<a key=${t} href=${hrefOf({ id }, t)} aria-current=${t === shown ? "page" : null}>${TABS[t]}</a>`)}
    </nav>
    <div class=${`view ${shown}`}>
      ${{
        overview: () => html`<${Overview} it=${it} cluster=${cluster} now=${now} hrefOf=${hrefOf} traffic=${traffic} />`,
        logs: () => html`<${Logs} key=${id} focus=${id} pods=${it.pods} />`,
        shell: () => html`<${LaterShell} key=${id} pod=${it.object} />`,
        events: () => html`<${Events} it=${it} cluster=${cluster} now=${now} />`,
        yaml: () => html`<${Yaml} path=${pathOf(KINDS[it.kind], it.ns, it.name)} metadata=${it.object.metadata} canChange=${canChange} />`,
      }[shown]()}
    </div>
    ${asking && html`<${Ask} ...${asking} onNo=${() => setAsking(null)} onYes=${() => { setAsking(null); asking.yes(); }} />`}
  </aside>`;
}

const LaterShell = later(() => import("./shell.js"), "Shell", html`<p class="hint">…</p>`);

function Top({ it, onClose }) {
  return html`<header class=${`top is-${it.is}`}>
    <${Dot} is=${it.is} size=${20} />
    <div>
      <p class="kind">${it.kind}${it.ns ? html` <span>in ${it.ns}</span>` : ""}</p>
      <h2>${it.name}</h2>
      <p class=${`state is-${it.is}`}>${it.text}</p>
    </div>
    <button type="button" class="plain" onClick=${onClose} aria-label="Close details"><${Icon} name="close" size=${18} /></button>
  </header>`;
}

function Buttons({ it, attempt, ask }) {
  const { workload: w, kind, ns, name } = it;
  const erase = () =>
    ask({
      title: `Delete ${kind} ${name}?`,
      text: kind === "Pod" ? (it.owner && it.owner.kind !== "Pod" ? `${it.owner.kind} ${it.owner.name} makes another one: this is the gentle way to see it heal.` : "Nothing makes another one.") : w ? `Its ${w.pods.length} pods go with it.` : "It is gone then.",
      action: "Delete",
      yes: () => attempt(`${name} is deleted`, () => actions.remove(kind, ns, name)),
    });
  const canRestart = ["Deployment", "StatefulSet", "DaemonSet"].includes(w?.kind);
  const canPause = ["Deployment", "DeploymentConfig", "CronJob"].includes(w?.kind);
  const before = w ? actions.revisions(w) : [];
  return html`<div class="buttons" role="group" aria-label="What can be done">
    ${w?.canScale &&
    html`<span class="stepper"><button type="button" aria-label="Scale down" disabled=${w.wanted === 0} onClick=${() => attempt(`Scaled to ${w.wanted - 1}`, () => actions.scale(w, w.wanted - 1))}>−</button><output aria-label="Pods wanted">${w.wanted}</output><button type="button" aria-label="Scale up" onClick=${() => attempt(`Scaled to ${w.wanted + 1}`, () => actions.scale(w, w.wanted + 1))}>+</button></span>`}
    ${canRestart && html`<${Button} icon="restart" text="Restart" onClick=${() => attempt("Restarting", () => actions.restart(w))} />`}
    ${w?.kind === "DeploymentConfig" && html`<${Button} icon="rocket" text="Roll out" onClick=${() => attempt("Rolling out", () => actions.rollOutLatest(w))} />`}
    ${canPause && html`<${Button} icon=${w.isPaused ? "play" : "pause"} text=${w.isPaused ? "Resume" : "Pause"} onClick=${() => attempt(w.isPaused ? "Resumed" : "Paused", () => actions.setPaused(w, !w.isPaused))} />`}
    ${before.length > 0 && html`<${Button} icon="undo" text=${`Undo to ${before[0].number}`} onClick=${() => attempt(`Back to revision ${before[0].number}`, () => actions.undo(w, before[0]))} />`}
    ${it.entry?.url && html`<a class="button" href=${it.entry.url} target="_blank" rel="noreferrer noopener"><${Icon} name="open" /> Open</a>`}
    <${Button} icon="trash" text="Delete" onClick=${erase} />
  </div>`;
}

const Button = ({ icon, text, onClick }) => html`<button type="button" onClick=${onClick}><${Icon} name=${icon} /> ${text}</button>`;

function Overview({ it, cluster, now, hrefOf, traffic }) {
  const of = it.workload ? WorkloadView : it.pod ? PodView : ServiceView;
  return html`<${Connections} it=${it} traffic=${traffic} /><${of} it=${it} cluster=${cluster} now=${now} hrefOf=${hrefOf} />`;
}

/** Connections to the endpoints of what is looked at, with a plot of the last minute each. */
function Connections({ it, traffic }) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), PLOT_MS);
    return () => clearInterval(timer);
  }, []);
  const service = it.service?.name;
  const pods = new Set(it.pods.map((p) => p.object.metadata.uid));
  const shown = traffic.all().filter(({ object }) => object.metadata.namespace === it.ns && (service ? object.service === service : pods.has(object.podUID)));
  if (!shown.length) return null;
  const most = Math.max(...shown.flatMap((one) => one.rates.map((r) => r.n)), 1);
  shown.sort((a, b) => a.object.metadata.name.localeCompare(b.object.metadata.name));
  return html`<section><h3>Connections</h3><ul class="connections">
    ${shown.map((one) => html`<li key=${one.object.metadata.name} class=${one.object.inRotation ? "" : "leaving"}>
      <span class="mono">${one.object.pod || one.object.address}</span>
      <span class="small">${one.object.connections.toLocaleString("en")} · ${one.object.active} open${one.object.inRotation ? "" : ", leaving"}${one.object.lost ? html` · <b class="is-failing">${one.object.lost} lost</b>` : ""}</span>
      <svg viewBox="0 0 160 24" width="160" height="24" preserveAspectRatio="none" role="img" aria-label=${`${rate(one, now).toFixed(1)} connections a second`}><path d=${plot(one, now, 160, 24, most)} /></svg>
      <span class="rate">${rate(one, now).toFixed(rate(one, now) < 10 ? 1 : 0)}/s</span>
    </li>`)}
  </ul></section>`;
}

const Facts = ({ rows }) => html`<dl class="facts">${rows.filter(([, v]) => v && (!Array.isArray(v) || v.length)).map(([k, v]) => html`<div key=${k}><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>`;

const labelsOf = (labels) => html`<span class="labels">${Object.entries(labels ?? {}).map(([k, v]) => html`<code key=${k}>${k}=${v}</code>`)}</span>`;

/** What is wrong, where it can be read off: reason, exit code and last lines. */
function Why({ pod }) {
  const { status = {} } = pod.object;
  const sources = sourcesOf([pod]);
  const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const wrong = all.filter((c) => containerState(c).is === "failing" || (c.restartCount > 0 && c.lastState?.terminated && c.lastState.terminated.exitCode !== 0));
  const stuck = (status.conditions ?? []).find((c) => c.type === "PodScheduled" && c.status === "False");
  return html`${stuck && html`<div class="why"><p><b>Not scheduled</b> ${stuck.message}</p></div>`}
  ${wrong.map((c) => {
    const now = containerState(c);
    const last = c.state?.terminated ?? c.lastState?.terminated;
    const source = sources.find((s) => s.container === c.name);
    return html`<div class=${`why ${now.is === "failing" ? "" : "past"}`} key=${c.name}>
      <p><b>${now.is === "failing" ? now.text : "It ended before"}</b> <span>${c.name}${last ? ` · ${ended(last)}` : ""}${c.restartCount ? ` · ${counted(c.restartCount, "restart")}` : ""}</span></p>
      ${c.state?.waiting?.message && html`<p class="message">${c.state.waiting.message}</p>`}
      ${last?.message && html`<p class="message">${last.message}</p>`}
      ${source?.id && last && html`<${LastLines} source=${source} isPrevious=${!c.state?.terminated} />`}
    </div>`;
  })}`;
}

function WorkloadView({ it, now, hrefOf }) {
  const w = it.workload;
  const { spec = {}, status = {}, metadata } = w.object;
  const bad = (status.conditions ?? []).filter((c) => ["ReplicaFailure", "Failed"].includes(c.type) ? c.status === "True" : c.status === "False");
  // One for each way in which pods fail, and not one for each pod.
  const failing = w.pods.filter((p, i, all) => p.state.is === "failing" && all.findIndex((q) => q.state.text === p.state.text) === i);
  const rolling = spec.strategy?.rollingUpdate ?? spec.strategy?.rollingParams;
  return html`
    <div class="rings"><svg viewBox="-36 -36 72 72" width="96" height="96" aria-hidden="true"><${Ring} workload=${w} r=${30} /></svg>
      <div><p class="figure"><b>${w.ready}</b> of ${w.wanted} ready</p><p class="hint">${w.isPaused ? "Paused: changes wait until it is resumed" : w.state.text}</p></div>
    </div>
    ${failing.map((pod) => html`<${Why} key=${pod.id} pod=${pod} />`)}
    ${bad.map((c) => html`<div class="why" key=${c.type}><p><b>${c.reason ?? c.type}</b> ${c.message}</p></div>`)}
    ${w.generations.length > 0 && w.canScale && html`<${Rollout} workload=${w} hrefOf=${hrefOf} />`}
    <h3>Pods</h3>
    <ul class="list">
      ${w.pods.map((p) => html`<li key=${p.object.metadata.uid}><a href=${hrefOf(p)}><${Dot} is=${p.state.is} /><span class="mono">${p.name}</span><span class=${`small is-${p.state.is}`}>${p.isDeployer ? "deployer · " : ""}${p.state.text}${p.restarts ? ` · ↻${p.restarts}` : ""}</span><span class="small age">${age(p.object.metadata.creationTimestamp, now)}</span></a></li>`)}
      ${!w.pods.length && html`<li class="hint">None</li>`}
    </ul>
    <h3>Facts</h3>
    <${Facts} rows=${[
      ["Image", w.images.map((image, i) => html`<code key=${i}>${image}</code> `)],
      ["Strategy", spec.strategy?.type && `${spec.strategy.type}${rolling ? `, ${rolling.maxSurge ?? 0} more and ${rolling.maxUnavailable ?? 0} fewer at most` : ""}`],
      ["Schedule", spec.schedule],
      ["Selector", spec.selector && labelsOf(spec.selector.matchLabels ?? spec.selector)],
      ["Labels", metadata.labels && labelsOf(metadata.labels)],
      ["Age", age(metadata.creationTimestamp, now)],
    ]} />`;
}

/** A rollout as rows of pods, the old ones above the new, and the line that they share. */
function Rollout({ workload: w, hrefOf }) {
  const rows = w.generations.slice(-3);
  const n = Math.max(w.wanted, ...rows.map((g) => g.pods.length), 1);
  const deployers = w.pods.filter((p) => p.isDeployer);
  return html`<h3>Revisions</h3>
    <div class="rollout">
      ${rows.map(
        (g, i) => html`<div class=${`generation ${i === rows.length - 1 ? "young" : "old"}`} key=${g.name}>
          <p><b>${i === rows.length - 1 ? (rows.length > 1 ? "new" : "current") : "old"}</b> <span class="mono">#${g.revision}</span></p>
          <ol style=${{ gridTemplateColumns: `repeat(${Math.min(n, 12)}, minmax(0, 1fr))` }}>
            ${Array.from({ length: Math.min(n, 36) }, (_, k) => g.pods[k]).map((p, k) => html`<li key=${k} class=${p ? `is-${p.state.is}` : "empty"}>${p && html`<a href=${hrefOf(p)} aria-label=${`Pod ${p.name}, ${p.state.text}`} title=${`${p.name}: ${p.state.text}`}><${Dot} is=${p.state.is} size=${12} /></a>`}</li>`)}
          </ol>
        </div>`,
      )}
      ${deployers.map((p) => html`<p key=${p.id} class="chip"><${Dot} is=${p.state.is} /> <a class="mono" href=${hrefOf(p)}>${p.name}</a> <span class="hint">${p.state.text}</span></p>`)}
    </div>`;
}

function PodView({ it, now, hrefOf }) {
  const { spec, status = {}, metadata } = it.object;
  const statuses = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const inits = new Set((spec.initContainers ?? []).map((c) => c.name));
  return html`
    <${Why} pod=${it.pod} />
    <h3>Containers</h3>
    ${[...(spec.initContainers ?? []), ...spec.containers].map((c) => {
      const s = statuses.find((one) => one.name === c.name);
      const state = containerState(s, inits.has(c.name));
      const short = s?.containerID?.replace(/^.*:\/\//, "").slice(0, 12);
      const since = s?.state?.running?.startedAt;
      return html`<article class="container" key=${c.name}>
        <p><${Dot} is=${state.is} /> <b>${c.name}</b>${inits.has(c.name) ? html` <span class="hint">init</span>` : ""} <span class=${`small is-${state.is}`}>${state.text}${since ? ` for ${age(since, now)}` : ""}</span>${s?.restartCount ? html`<span class="small"> · ${counted(s.restartCount, "restart")}</span>` : ""}</p>
        <${Facts} rows=${[
          ["Image", html`<code>${c.image}</code>`],
          ["Command", c.command && html`<code>${[...c.command, ...(c.args ?? [])].join(" ")}</code>`],
          ["Ports", (c.ports ?? []).map((p) => `${p.containerPort}${p.protocol && p.protocol !== "TCP" ? `/${p.protocol}` : ""}`).join(", ")],
          ["Limits", c.resources?.limits && Object.entries(c.resources.limits).map(([k, v]) => `${k} ${v}`).join(", ")],
          ["Variables", (c.env ?? []).length > 0 && html`<span class="labels">${c.env.map((e) => html`<code key=${e.name}>${e.name}${e.value !== undefined ? `=${e.value}` : ""}</code>`)}</span>`],
          ["Mounts", (c.volumeMounts ?? []).filter((m) => !m.mountPath.startsWith("/var/run/secrets/kubernetes.io")).map((m) => html`<code key=${m.mountPath}>${m.mountPath}</code> `)],
        ]} />
        ${short && s.state?.running && html`<${Chaos} id=${short} />`}
      </article>`;
    })}
    <h3>Facts</h3>
    <${Facts} rows=${[
      ["Owner", it.owner && it.owner.kind !== "Pod" && html`<a href=${hrefOf(it.owner)}>${it.owner.kind} ${it.owner.name}</a>`],
      ["Address", status.podIP && html`<code>${status.podIP}</code>`],
      ["Node", spec.nodeName],
      ["Account", spec.serviceAccountName],
      ["Labels", metadata.labels && labelsOf(metadata.labels)],
      ["Age", age(metadata.creationTimestamp, now)],
    ]} />`;
}

/** What one can do to a container from a terminal, to see it heal. The page itself has no hand in Docker. */
function Chaos({ id }) {
  const ways = [
    ["Kill it", `docker kill ${id}`, "The program gets no chance to say goodbye. skiff starts another one at once."],
    ["Stop it", `docker stop ${id}`, "It is asked to end first, and killed after ten seconds."],
    ["Remove it", `docker rm -f ${id}`, "The container is gone, its log with it."],
    ["Freeze it", `docker pause ${id}`, "It stays and does nothing: liveness probes notice, if it has any."],
  ];
  return html`<details class="chaos"><summary>Break it</summary>
    <p class="hint">In a terminal. Watch what happens here.</p>
    <ul>${ways.map(([name, line, what]) => html`<li key=${name}><p><b>${name}</b> ${what}</p><p class="line"><code>${line}</code><${Copy} text=${line} label=${line} /></p></li>`)}</ul>
  </details>`;
}

function ServiceView({ it, cluster, now, hrefOf }) {
  const { spec = {}, metadata, status = {} } = it.object;
  const service = it.service;
  const slices = service ? cluster.all("EndpointSlice").filter((s) => s.metadata.namespace === service.ns && s.metadata.labels?.["kubernetes.io/service-name"] === service.name) : [];
  const endpoints = slices.flatMap((s) => (s.endpoints ?? []).map((e) => ({ ...e, port: s.ports?.map((p) => p.port).join(", ") })));
  return html`
    ${spec.ports && html`<h3>Ports</h3><ul class="list plain">${spec.ports.map((p) => html`<li key=${p.port + (p.protocol ?? "")}><span class="mono">${p.port} → ${p.targetPort ?? p.port}</span><span class="small">${p.protocol ?? "TCP"}${p.name ? ` · ${p.name}` : ""}</span>${p.nodePort ? html`<span class="small mono">node port ${p.nodePort}</span>` : ""}</li>`)}</ul>`}
    ${it.kind !== "Service" && service && html`<h3>Leads to</h3><ul class="list"><li><a href=${hrefOf(service)}><${Dot} is=${service.nReady ? "ready" : "idle"} /><span>${service.name}</span><span class="small">${service.nReady} of ${service.nAll} endpoints ready</span></a></li></ul>`}
    ${it.kind === "Service" && html`<h3>Endpoints</h3>
    <ul class="list">
      ${endpoints.map((e) => {
        const { ready, terminating } = e.conditions ?? {};
        const is = terminating ? "ending" : ready ? "ready" : "starting";
        const target = e.targetRef;
        return html`<li key=${e.addresses[0]}><a href=${target ? hrefOf({ id: `Pod/${target.namespace}/${target.name}` }) : null}><${Dot} is=${is} /><span class="mono">${e.addresses[0]}:${e.port}</span><span class="small">${target?.name ?? ""}</span><span class=${`small is-${is}`}>${terminating ? "draining" : ready ? "takes connections" : "not ready"}</span></a></li>`;
      })}
      ${!endpoints.length && html`<li class="hint">None: no ready pod has the labels that it selects</li>`}
    </ul>`}
    <h3>Facts</h3>
    <${Facts} rows=${[
      ["Type", spec.type],
      ["Cluster IP", spec.clusterIP && html`<code>${spec.clusterIP}</code>`],
      ["Load balancer", (status.loadBalancer?.ingress ?? []).map((i) => i.ip ?? i.hostname).join(", ")],
      ["Host", spec.host],
      ["Selector", spec.selector && labelsOf(spec.selector)],
      ["Labels", metadata.labels && labelsOf(metadata.labels)],
      ["Age", age(metadata.creationTimestamp, now)],
    ]} />`;
}

const lastSeen = (e) => e.series?.lastObservedTime ?? e.lastTimestamp ?? e.eventTime ?? e.metadata.creationTimestamp;

function Events({ it, cluster, now }) {
  const uids = new Set([it.object.metadata.uid, ...it.pods.map((p) => p.object.metadata.uid), ...(it.workload?.sets ?? []).map((s) => s.object.metadata.uid)]);
  const events = cluster.all("Event").filter((e) => uids.has(e.involvedObject?.uid)).sort((a, b) => lastSeen(b).localeCompare(lastSeen(a)));
  if (cluster.forbidden.has("Event")) return html`<p class="hint">You may not see Events</p>`;
  if (!events.length) return html`<p class="hint">Nothing in the last hour</p>`;
  return html`<ol class="events">
    ${events.slice(0, 200).map((e) => html`<li key=${e.metadata.uid} class=${e.type === "Warning" ? "warning" : ""}>
      <p><b>${e.reason}</b>${(e.series?.count ?? e.count ?? 1) > 1 ? html` <span class="small">×${e.series?.count ?? e.count}</span>` : ""} <time class="small" title=${lastSeen(e)}>${age(lastSeen(e), now)} ago</time></p>
      <p>${e.message}</p>
      ${e.involvedObject.uid !== it.object.metadata.uid && html`<p class="small">${e.involvedObject.kind} ${e.involvedObject.name}</p>`}
    </li>`)}
  </ol>`;
}
