// What the cluster holds, kept up by one watch per kind. A watch that ends is begun again; what was known stays until the new list is whole.

import { Refused, getJson, pathOf, socket } from "./api.js";

const of = (kind, group, version, plural) => ({ kind, group, version, plural });

/** The kinds that the page follows, where the server has them. */
export const KINDS = Object.fromEntries(
  [
    of("Pod", "", "v1", "pods"),
    of("Service", "", "v1", "services"),
    of("Event", "", "v1", "events"),
    of("ReplicationController", "", "v1", "replicationcontrollers"),
    of("Deployment", "apps", "v1", "deployments"),
    of("ReplicaSet", "apps", "v1", "replicasets"),
    of("StatefulSet", "apps", "v1", "statefulsets"),
    of("DaemonSet", "apps", "v1", "daemonsets"),
    of("Job", "batch", "v1", "jobs"),
    of("CronJob", "batch", "v1", "cronjobs"),
    of("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    of("Ingress", "networking.k8s.io", "v1", "ingresses"),
    of("DeploymentConfig", "apps.openshift.io", "v1", "deploymentconfigs"),
    of("Route", "route.openshift.io", "v1", "routes"),
  ].map((kind) => [kind.kind, kind]),
);

/** How long to wait before a watch is begun again, by how often it failed. */
const PAUSES_MS = [0, 200, 500, 1000, 2000, 4000];
/** How long a watch may be away before the page says so. */
const AWAY_MS = 1200;
/** How long a connection may take until it is given up. */
const OPEN_MS = 8000;

/** Follows the cluster. `changed` is called once a frame at most, `seen` with every change as it comes. */
export class Cluster {
  constructor({ changed, seen, signedOut }) {
    /** By kind, by UID. */
    this.objects = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, new Map()]));
    /** Kinds that this user may not see. */
    this.forbidden = new Set();
    this.changed = changed;
    this.seen = seen;
    this.signedOut = signedOut;
    this.watches = [];
    this.frame = 0;
    /** Counts what changes the picture. */
    this.version = 0;
  }

  async follow() {
    const served = await served_kinds();
    this.watches = Object.values(KINDS)
      .filter((kind) => served.has(`${kind.group}/${kind.plural}`))
      .map((kind) => new Watch(kind, this));
  }

  /** "live", "loading", or "away" when a watch has been broken for a moment. */
  get state() {
    const now = performance.now();
    const active = this.watches.filter((watch) => !watch.isForbidden);
    if (active.some((watch) => watch.since && now - watch.since >= AWAY_MS)) return "away";
    return this.watches.length && active.every((watch) => watch.isWhole) ? "live" : "loading";
  }

  all(kind) {
    return [...this.objects[kind].values()];
  }

  find(kind, namespace, name) {
    return this.all(kind).find((o) => o.metadata.name === name && (o.metadata.namespace ?? "") === (namespace ?? ""));
  }

  /** Something of a kind is another now. */
  note(kind) {
    if (kind !== "Event") this.version += 1;
    this.wake();
  }

  wake() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.changed();
    });
  }
}

async function served_kinds() {
  const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
  const lists = await Promise.all(["/api", "/apis"].map((path) => getJson(path, { accept })));
  const names = new Set();
  for (const group of lists.flatMap((list) => list.items ?? [])) {
    for (const version of group.versions ?? []) {
      for (const resource of version.resources ?? []) names.add(`${group.metadata?.name ?? ""}/${resource.resource}`);
    }
  }
  return names;
}

class Watch {
  constructor(kind, cluster) {
    this.kind = kind;
    this.cluster = cluster;
    this.failures = 0;
    this.isWhole = false;
    this.isForbidden = false;
    /** Since when it is away. */
    this.since = 0;
    this.open();
  }

  open() {
    const query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    const ws = socket(`${pathOf(this.kind)}?${query}`);
    const late = setTimeout(() => ws.close(), OPEN_MS);
    let wasOpen = false;
    /** The list, until it is whole. */
    let list = new Map();
    ws.onopen = () => {
      wasOpen = true;
      clearTimeout(late);
    };
    ws.onmessage = ({ data }) => {
      const { type, object } = JSON.parse(data);
      if (type === "ERROR") return ws.close();
      if (type === "BOOKMARK") {
        if (list && object.metadata?.annotations?.["k8s.io/initial-events-end"] === "true") {
          this.replace(list);
          list = null;
        }
        return;
      }
      if (!list) return this.apply(type, object);
      if (type === "DELETED") list.delete(object.metadata.uid);
      else list.set(object.metadata.uid, object);
    };
    ws.onclose = () => {
      clearTimeout(late);
      this.again(wasOpen);
    };
  }

  replace(list) {
    const before = this.cluster.objects[this.kind.kind];
    this.cluster.objects[this.kind.kind] = list;
    const isFirst = !this.isWhole;
    this.isWhole = true;
    this.failures = 0;
    this.since = 0;
    if (!isFirst) {
      for (const [uid, object] of list) {
        const old = before.get(uid);
        if (old?.metadata.resourceVersion !== object.metadata.resourceVersion) this.tell(old ? "MODIFIED" : "ADDED", object, old);
      }
      for (const [uid, object] of before) if (!list.has(uid)) this.tell("DELETED", object, object);
    }
    this.cluster.note(this.kind.kind);
  }

  apply(type, object) {
    const objects = this.cluster.objects[this.kind.kind];
    const { uid } = object.metadata;
    const old = objects.get(uid);
    if (type === "DELETED") objects.delete(uid);
    else objects.set(uid, object);
    this.tell(type, object, old);
    this.cluster.note(this.kind.kind);
  }

  tell(type, object, old) {
    this.cluster.seen({ kind: this.kind.kind, type, object, old, at: performance.timeOrigin + performance.now() });
  }

  /** Begins again. A WebSocket does not say why it was refused, so one that never opened asks for a list, which does. */
  async again(wasOpen) {
    this.since ||= performance.now();
    setTimeout(() => this.cluster.wake(), AWAY_MS + 50);
    if (!wasOpen) {
      try {
        await getJson(`${pathOf(this.kind)}?limit=1`);
      } catch (err) {
        if (err instanceof Refused && err.code === 401) return this.cluster.signedOut();
        if (err instanceof Refused && (err.code === 403 || err.code === 404)) {
          this.isForbidden = true;
          this.cluster.forbidden.add(this.kind.kind);
          return this.cluster.wake();
        }
      }
    }
    const pause = PAUSES_MS[Math.min(this.failures, PAUSES_MS.length - 1)];
    this.failures += 1;
    setTimeout(() => this.open(), pause);
  }
}
