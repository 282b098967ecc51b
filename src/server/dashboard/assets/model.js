// What the objects of a cluster mean as a picture: entries, Services, workloads and pods, and how each of them is. Pure.

/** Namespaces that are the cluster's own. */
export const isSystem = (namespace) => /^(kube-|openshift-|openshift$)/.test(namespace ?? "");

/** Reasons for which a container waits that do not pass by themselves. */
const STUCK = new Set([
  "CrashLoopBackOff",
  "ImagePullBackOff",
  "ErrImagePull",
  "ErrImageNeverPull",
  "InvalidImageName",
  "CreateContainerConfigError",
  "CreateContainerError",
  "RunContainerError",
]);

/** The workloads that keep pods, in the order in which they are shown. */
export const WORKLOADS = [
  "Deployment",
  "DeploymentConfig",
  "StatefulSet",
  "DaemonSet",
  "ReplicationController",
  "ReplicaSet",
  "CronJob",
  "Job",
  "Pod",
];

const DEPLOYER = "openshift.io/deployer-pod-for.name";

export const key = (object, kind) => `${kind}/${object.metadata.namespace ?? ""}/${object.metadata.name}`;

const controllerOf = (object) => object.metadata.ownerReferences?.find((o) => o.controller) ?? object.metadata.ownerReferences?.[0];

/** How a container is: its state, in a word of a few, and a sentence. */
export function containerState(status, isInit) {
  if (!status) return { is: "starting", text: "not created yet" };
  const { waiting, running, terminated } = status.state ?? {};
  if (running) return status.ready || isInit ? { is: "ready", text: "running" } : { is: "starting", text: "running, not ready" };
  if (terminated) {
    if (terminated.exitCode === 0) return { is: "done", text: "completed" };
    return { is: "failing", text: ended(terminated) };
  }
  if (waiting && STUCK.has(waiting.reason)) return { is: "failing", text: waiting.reason };
  return { is: "starting", text: waiting?.reason ?? "waiting" };
}

/** How a container ended, in words. */
export function ended({ exitCode, signal, reason }) {
  if (reason === "OOMKilled") return "out of memory (OOMKilled)";
  const number = signal || (exitCode > 128 ? exitCode - 128 : 0);
  const name = { 1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM" }[number];
  if (name) return `ended by ${name}, exit code ${exitCode}`;
  return exitCode === 0 ? "completed" : `exit code ${exitCode}`;
}

/** So many of something, in words. */
export const counted = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

export const restartsOf = (pod) => (pod.status?.containerStatuses ?? []).reduce((sum, c) => sum + (c.restartCount ?? 0), 0);

/** How a pod is: a word of a few for its look, and what kubectl says of it. */
export function podState(pod) {
  const { status = {}, spec = {}, metadata } = pod;
  const isReady = status.conditions?.some((c) => c.type === "Ready" && c.status === "True");
  if (metadata.deletionTimestamp) return { is: "ending", text: "Terminating" };
  if (status.phase === "Succeeded") return { is: "done", text: "Completed" };
  if (status.phase === "Failed") return { is: "failing", text: status.reason ?? "Failed" };
  const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  for (const c of all) {
    const { waiting, terminated } = c.state ?? {};
    if (waiting && STUCK.has(waiting.reason)) return { is: "failing", text: waiting.reason };
    if (!terminated || terminated.exitCode === 0) continue;
    // One that is started again at once is not for a person to look after; one that keeps failing waits, which is above.
    return (spec.restartPolicy ?? "Always") === "Always" ? { is: "starting", text: "Restarting" } : { is: "failing", text: terminated.reason ?? "Error" };
  }
  if (isReady) return { is: "ready", text: "Running" };
  const unscheduled = status.conditions?.find((c) => c.type === "PodScheduled" && c.status === "False");
  // A gate is somebody's wish.
  if (unscheduled) return { is: unscheduled.reason === "SchedulingGated" ? "starting" : "failing", text: unscheduled.reason ?? "Unschedulable" };
  if (status.phase === "Running") return { is: "starting", text: "Running, not ready" };
  const inits = spec.initContainers?.length ?? 0;
  const done = (status.initContainerStatuses ?? []).filter((c) => c.state?.terminated?.exitCode === 0).length;
  if (inits && done < inits) return { is: "starting", text: `Init ${done} of ${inits}` };
  return { is: "starting", text: all.find((c) => c.state?.waiting)?.state.waiting.reason ?? status.phase ?? "Pending" };
}

/** Whether labels have all that a selector of equalities asks for. An empty one asks for nothing and selects nothing here. */
const selects = (selector, labels) => {
  const pairs = Object.entries(selector ?? {});
  return pairs.length > 0 && pairs.every(([k, v]) => labels?.[k] === v);
};

/** Reads the filter's text: names, `kind:…`, `ns:…`, and labels as `key=value`. */
export function readFilter(text) {
  const filter = { words: [], kinds: [], labels: [] };
  for (const word of text.trim().toLowerCase().split(/\s+/).filter(Boolean)) {
    if (word.startsWith("kind:")) filter.kinds.push(word.slice(5));
    else if (word.includes("=")) filter.labels.push(word.split("=", 2));
    else filter.words.push(word);
  }
  return filter;
}

function passes({ words, kinds, labels }, kind, object, template) {
  const { name } = object.metadata;
  const own = { ...template, ...object.metadata.labels };
  return (
    kinds.every((k) => kind.toLowerCase().startsWith(k)) &&
    words.every((w) => name.toLowerCase().includes(w) || kind.toLowerCase() === w) &&
    labels.every(([k, v]) => Object.entries(own).some(([key, value]) => key.toLowerCase() === k && (!v || value.toLowerCase() === v)))
  );
}

/** Where a Service's port is reached from outside. */
function doors(service) {
  const { type, ports = [] } = service.spec;
  const found = [];
  const web = (host, port) => ({ url: `http://${host}:${port}`, text: `${host}:${port}` });
  for (const port of ports) {
    const isUdp = port.protocol && port.protocol !== "TCP";
    for (const { ip, hostname } of service.status?.loadBalancer?.ingress ?? []) {
      const at = web(ip?.includes(":") ? `[${ip}]` : (ip ?? hostname), port.port);
      found.push({ kind: "LoadBalancer", ...at, url: isUdp ? null : at.url, port });
    }
    if (port.nodePort && (type === "NodePort" || type === "LoadBalancer")) {
      const at = web("localhost", port.nodePort);
      found.push({ kind: "NodePort", ...at, url: isUdp ? null : at.url, port });
    }
  }
  return found;
}

/** The rules of an Ingress: host, path and the Service behind. */
function ingressDoors(ingress) {
  const rules = ingress.spec?.rules ?? [];
  const found = rules.flatMap((rule) =>
    (rule.http?.paths ?? []).map((p) => ({ host: rule.host ?? "localhost", path: p.path ?? "/", service: p.backend?.service?.name })),
  );
  const fallback = ingress.spec?.defaultBackend?.service?.name;
  if (fallback) found.push({ host: "localhost", path: "/", service: fallback });
  return found;
}

/**
 * The picture. `objects` gives all objects of a kind; `namespace` is one, "" for all, or null for all but the cluster's own.
 * Gives entries, services and workloads; each workload has its pods, each service and entry tells by `to` where it leads.
 */
export function picture(objects, { namespace = null, text = "" } = {}) {
  const filter = readFilter(text);
  const isShown = (o) => (namespace === null ? !isSystem(o.metadata.namespace) : namespace === "" || o.metadata.namespace === namespace);
  const shown = (kind) => objects(kind).filter(isShown);
  const workloads = gather(shown, filter);
  const byKey = new Map(workloads.map((w) => [w.id, w]));
  const hasFilter = text.trim() !== "";
  const services = [];
  for (const service of shown("Service")) {
    const { name, namespace: ns } = service.metadata;
    if (name === "kubernetes" && ns === "default") continue;
    const to = workloads.filter((w) => w.ns === ns && w.labels.some((labels) => selects(service.spec.selector, labels))).map((w) => w.id);
    if (hasFilter && !to.length && !passes(filter, "Service", service)) continue;
    services.push({ id: key(service, "Service"), kind: "Service", name, ns, object: service, to, ...rotation(shown("EndpointSlice"), ns, name) });
  }
  const entries = [];
  for (const service of services) {
    for (const door of doors(service.object)) {
      const id = `${door.kind}/${service.ns}/${service.name}/${door.text}`;
      entries.push({ id, kind: door.kind, name: door.text, ns: service.ns, url: door.url, to: [service.id], port: door.port.name ?? "", object: service.object });
    }
  }
  const known = new Map(services.map((s) => [s.id, s]));
  const through = (kind, object, text, url, names) => {
    const to = [...new Set(names)].map((n) => `Service/${object.metadata.namespace}/${n}`).filter((id) => known.has(id));
    if (hasFilter && !to.length && !passes(filter, kind, object)) return;
    entries.push({ id: `${key(object, kind)}/${text}`, kind, name: text, ns: object.metadata.namespace, url, to, object });
  };
  for (const ingress of shown("Ingress")) {
    for (const { host, path, service } of ingressDoors(ingress)) through("Ingress", ingress, host + path, `http://${host}${path}`, [service]);
  }
  for (const route of shown("Route")) {
    const { host = route.metadata.name, path = "", to, alternateBackends = [], tls } = route.spec ?? {};
    through("Route", route, host + path, `${tls ? "https" : "http"}://${host}${path}`, [to?.name, ...alternateBackends.map((b) => b.name)]);
  }
  return { entries, services, workloads, byKey };
}

/** The endpoints of a Service: how many there are, how many take connections, and which pods those are. */
function rotation(slices, ns, name) {
  const own = slices.filter((s) => s.metadata.namespace === ns && s.metadata.labels?.["kubernetes.io/service-name"] === name);
  const endpoints = own.flatMap((s) => s.endpoints ?? []);
  const ready = endpoints.filter((e) => e.conditions?.ready);
  return { nReady: ready.length, nAll: endpoints.length, takes: new Set(ready.map((e) => e.targetRef?.uid).filter(Boolean)) };
}

function gather(shown, filter) {
  const owners = new Map();
  for (const kind of ["Deployment", "DeploymentConfig", "ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Job", "CronJob"]) {
    for (const object of shown(kind)) owners.set(object.metadata.uid, { kind, object });
  }
  /** What a user thinks of as the workload: the end of the chain of owners. */
  const rootOf = (object, kind) => {
    let at = { kind, object };
    for (let i = 0; i < 4; i++) {
      const next = owners.get(controllerOf(at.object)?.uid);
      if (!next) return at;
      at = next;
    }
    return at;
  };
  const found = new Map();
  const workload = ({ kind, object }) => {
    const { uid } = object.metadata;
    if (!found.has(uid)) found.set(uid, { id: key(object, kind), kind, object, name: object.metadata.name, ns: object.metadata.namespace, pods: [], sets: [] });
    return found.get(uid);
  };
  for (const { kind, object } of owners.values()) {
    const root = rootOf(object, kind);
    const of = workload(root);
    if (root.object !== object) of.sets.push({ kind, object });
  }
  for (const pod of shown("Pod")) {
    const root = rootOf(pod, "Pod");
    const set = controllerOf(pod)?.uid;
    const isDeployer = Boolean(pod.metadata.labels?.[DEPLOYER] ?? pod.metadata.annotations?.[DEPLOYER]);
    workload(root).pods.push({
      id: key(pod, "Pod"),
      kind: "Pod",
      name: pod.metadata.name,
      ns: pod.metadata.namespace,
      object: pod,
      set,
      isDeployer,
      restarts: restartsOf(pod),
      state: podState(pod),
    });
  }
  const all = [...found.values()].filter((w) => passes(filter, w.kind, w.object, w.object.spec?.template?.metadata?.labels ?? w.object.spec?.template?.labels));
  return all.map(complete).filter((w) => w.isAlive).sort(byPlace);
}

const byPlace = (a, b) =>
  a.ns.localeCompare(b.ns) || a.part.localeCompare(b.part) || WORKLOADS.indexOf(a.kind) - WORKLOADS.indexOf(b.kind) || a.name.localeCompare(b.name);

/** What a workload wants and has. */
function complete(w) {
  const { spec = {}, status = {}, metadata } = w.object;
  w.pods.sort((a, b) => a.object.metadata.creationTimestamp.localeCompare(b.object.metadata.creationTimestamp) || a.name.localeCompare(b.name));
  // Deployers of rollouts that are over stay for their logs; the last of them is enough in a picture.
  const deployers = w.pods.filter((p) => p.isDeployer);
  w.pods = w.pods.filter((p) => !p.isDeployer || p === deployers.at(-1) || p.state.is !== "done");
  const own = w.pods.filter((p) => !p.isDeployer);
  w.part = metadata.labels?.["app.kubernetes.io/part-of"] ?? metadata.labels?.["app.kubernetes.io/name"] ?? w.name;
  w.ready = own.filter((p) => p.state.is === "ready").length;
  w.wanted = { DaemonSet: status.desiredNumberScheduled, Job: spec.completions ?? spec.parallelism ?? 1, CronJob: (status.active ?? []).length, Pod: 1 }[w.kind] ?? spec.replicas ?? 1;
  if (w.kind === "Job") w.ready = status.succeeded ?? 0;
  if (w.kind === "Pod" && own[0]?.state.is === "done") w.ready = 1;
  w.isPaused = Boolean(spec.paused || (w.kind === "CronJob" && spec.suspend));
  w.canScale = ["Deployment", "DeploymentConfig", "ReplicaSet", "ReplicationController", "StatefulSet"].includes(w.kind);
  const template = spec.template ?? (w.kind === "CronJob" ? spec.jobTemplate?.spec?.template : w.object);
  w.images = (template?.spec?.containers ?? []).map((c) => c.image);
  w.labels = [template?.metadata?.labels, ...own.map((p) => p.object.metadata.labels)].filter(Boolean);
  w.generations = generations(w, own);
  // A set that an update has emptied is history, and a job that is over was long ago.
  w.isAlive = !(w.kind === "Job" && controllerOf(w.object) && !w.pods.length);
  w.state = workloadState(w, own);
  return w;
}

/** The pods by the set that made them, oldest first: two of them while an update is under way. */
function generations(w, own) {
  const sets = w.sets.filter((s) => own.some((p) => p.set === s.object.metadata.uid) || (s.object.spec?.replicas ?? 0) > 0);
  const rows = sets.map((s) => ({ name: s.object.metadata.name, revision: revisionOf(s.object), pods: own.filter((p) => p.set === s.object.metadata.uid) }));
  return rows.sort((a, b) => a.revision - b.revision);
}

export const revisionOf = ({ metadata }) =>
  Number(metadata.annotations?.["deployment.kubernetes.io/revision"] ?? metadata.annotations?.["openshift.io/deployment-config.latest-version"] ?? 0);

function workloadState(w, own) {
  const failing = w.pods.filter((p) => p.state.is === "failing" && !(p.isDeployer && w.ready >= w.wanted));
  const isDone = w.kind === "Job" && (w.object.status?.conditions ?? []).some((c) => c.type === "Complete" && c.status === "True");
  const hasFailed = w.kind === "Job" && (w.object.status?.conditions ?? []).some((c) => c.type === "Failed" && c.status === "True");
  if (w.kind === "Pod" && own.length) return own[0].state.is === "ready" ? { is: "ready", text: "ready" } : own[0].state;
  if (hasFailed) return { is: "failing", text: "failed" };
  if (isDone) return { is: "done", text: "complete" };
  if (failing.length && w.kind !== "CronJob") return { is: "failing", text: failing[0].state.text };
  if (w.kind === "CronJob") return { is: "done", text: w.isPaused ? "suspended" : w.object.spec.schedule };
  const extra = own.filter((p) => p.state.is !== "ending" && p.state.is !== "done").length - w.wanted;
  if (w.ready < w.wanted) return { is: "starting", text: `${w.wanted - w.ready} to come` };
  if (w.generations.length > 1) return { is: "starting", text: "updating" };
  if (extra > 0 && w.kind !== "Pod") return { is: "starting", text: `${extra} to go` };
  if (w.wanted === 0) return { is: "idle", text: "scaled to zero" };
  return { is: "ready", text: "ready" };
}

/** A sentence about everything in the picture, and what is wrong in it. */
export function summary({ workloads }) {
  const failing = workloads.filter((w) => w.state.is === "failing");
  const moving = workloads.filter((w) => w.state.is === "starting");
  const pods = workloads.flatMap((w) => w.pods).filter((p) => p.state.is !== "done");
  const ready = pods.filter((p) => p.state.is === "ready").length;
  if (!workloads.length) return { is: "idle", text: "Nothing runs here yet", failing, moving };
  if (failing.length) return { is: "failing", text: `${counted(failing.length, "workload")} ${failing.length === 1 ? "needs" : "need"} you`, failing, moving };
  if (moving.length) return { is: "starting", text: `${ready} of ${counted(pods.length, "pod")} ready`, failing, moving };
  return { is: "ready", text: `All ${counted(pods.length, "pod")} of ${counted(workloads.length, "workload")} are ready`, failing, moving };
}

/** How long ago, as kubectl says it. */
export function age(timestamp, now) {
  const secs = Math.max(0, Math.round((now - Date.parse(timestamp)) / 1000));
  if (secs < 120) return `${secs}s`;
  if (secs < 7200) return `${Math.floor(secs / 60)}m`;
  if (secs < 172800) return `${Math.floor(secs / 3600)}h`;
  return `${Math.floor(secs / 86400)}d`;
}
