// The JavaScript client's calls, each with what it must answer. Prints how many distinct ones there were.

import { PassThrough } from "node:stream";
import * as k8s from "@kubernetes/client-node";
import WebSocket from "ws";
import { call, count, errorOf, rewrite, until } from "./calls.mjs";

const image = process.argv[2];

// A call that is refused with this code and reason.
const refused = async (what, code, reason, act) => {
  const err = await errorOf(what, act);
  const body = typeof err.body === "string" ? JSON.parse(err.body) : err.body;
  call(what, [err.code, body.reason], [code, reason]);
};

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const net = config.makeApiClient(k8s.NetworkingV1Api);
const namespace = "javascript";
const names = (list) => list.items.map((item) => item.metadata.name);
const map = (name, more = {}) => ({ namespace, body: { metadata: { name, ...more }, data: { k: "v" } } });

// The cluster.
call("version", Number((await config.makeApiClient(k8s.VersionApi).getCode()).minor) >= 37);
call("groups", (await config.makeApiClient(k8s.ApisApi).getAPIVersions()).groups.some((g) => g.name === "apps"));
call("resources", (await core.getAPIResources()).resources.some((r) => r.name === "pods"));
call("nodes", (await core.listNode()).items.length, 1);

// Namespaces and simple objects.
call("create namespace", (await core.createNamespace({ body: { metadata: { name: namespace } } })).status.phase, "Active");
await until("service account", async () => names(await core.listNamespacedServiceAccount({ namespace })), ["default"]);
const made = await core.createNamespacedConfigMap(map("cm", { labels: { a: "b" } }));
call("create map", made.data, { k: "v" });
call("time", made.metadata.creationTimestamp instanceof Date);
await refused("same map", 409, "AlreadyExists", () => core.createNamespacedConfigMap(map("cm")));
call("read map", (await core.readNamespacedConfigMap({ namespace, name: "cm" })).metadata.uid, made.metadata.uid);
call("list by label", names(await core.listNamespacedConfigMap({ namespace, labelSelector: "a in (b)" })), ["cm"]);
call("list by field", names(await core.listConfigMapForAllNamespaces({ fieldSelector: "metadata.name=cm" })), ["cm"]);
made.data.k = "w";
call("replace map", (await core.replaceNamespacedConfigMap({ namespace, name: "cm", body: made })).data.k, "w");
await refused("old revision", 409, "Conflict", () => core.replaceNamespacedConfigMap({ namespace, name: "cm", body: made }));
const patch = (body, type) =>
  core.patchNamespacedConfigMap({ namespace, name: "cm", body }, k8s.setHeaderOptions("Content-Type", type));
call("merge patch", (await patch({ data: { n: "1" } }, k8s.PatchStrategy.MergePatch)).data, { k: "w", n: "1" });
call("json patch", (await patch([{ op: "remove", path: "/data/n" }], k8s.PatchStrategy.JsonPatch)).data, { k: "w" });
call("strategic patch", (await patch({ data: { k: "x" } }, k8s.PatchStrategy.StrategicMergePatch)).data, { k: "x" });
await refused("bad name", 422, "Invalid", () => core.createNamespacedConfigMap(map("A b")));
await refused("missing", 404, "NotFound", () => core.readNamespacedConfigMap({ namespace, name: "no" }));
call("dry run", (await core.createNamespacedConfigMap({ ...map("dry"), dryRun: "All" })).metadata.name, "dry");
await refused("nothing was written", 404, "NotFound", () => core.readNamespacedConfigMap({ namespace, name: "dry" }));
const secret = { metadata: { name: "s" }, stringData: { k: "v" } };
call("secret", (await core.createNamespacedSecret({ namespace, body: secret })).data.k, "dg==");
call("delete secret", (await core.deleteNamespacedSecret({ namespace, name: "s" })).status, "Success");
const first = await core.listNamespacedConfigMap({ namespace, limit: 1 });
const rest = await core.listNamespacedConfigMap({ namespace, limit: 10, _continue: first.metadata._continue });
call("pages", [...names(first), ...names(rest)], names(await core.listNamespacedConfigMap({ namespace })));

// Watches: over HTTP, by an informer, and over WebSocket as a browser does.
const seen = [];
const path = `/api/v1/namespaces/${namespace}/configmaps`;
const revision = first.metadata.resourceVersion;
const over = new Promise((resolve) => {
  new k8s.Watch(config)
    .watch(path, { resourceVersion: revision }, (type, object) => {
      seen.push(`${type} ${object.metadata.name}`);
      if (type === "DELETED") resolve();
    }, resolve);
});
await core.createNamespacedConfigMap(map("seen"));
await core.deleteNamespacedConfigMap({ namespace, name: "seen" });
await over;
call("watch", seen, ["ADDED seen", "DELETED seen"]);
const informer = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace }));
const added = [];
informer.on("add", (object) => added.push(object.metadata.name));
await informer.start();
await until("informer", async () => added.includes("cm"));
await informer.stop();
const options = {};
await config.applyToHTTPSOptions(options);
const { ca, cert, key } = options.agent?.options ?? options;
const server = config.getCurrentCluster().server.replace("https", "wss");
const socket = new WebSocket(`${server}${path}?watch=true`, { ca, cert, key });
const event = JSON.parse(await new Promise((resolve, reject) => socket.on("message", resolve).on("error", reject)));
call("watch over WebSocket", event.type, "ADDED");
socket.close();
await new Promise((resolve) => socket.on("close", resolve));
call("its close", socket.readyState, WebSocket.CLOSED);

// Workloads.
const labels = { app: "web" };
const container = { name: "web", image, imagePullPolicy: "IfNotPresent" };
const template = { metadata: { labels }, spec: { containers: [container], terminationGracePeriodSeconds: 1 } };
const deployment = { metadata: { name: "web" }, spec: { replicas: 1, selector: { matchLabels: labels }, template } };
call("deployment", (await apps.createNamespacedDeployment({ namespace, body: deployment })).spec.replicas, 1);
const ready = async () => (await apps.readNamespacedDeploymentStatus({ namespace, name: "web" })).status.readyReplicas;
await until("rolled out", ready, 1);
const scale = () => apps.readNamespacedDeploymentScale({ namespace, name: "web" });
const toTwo = (read) => {
  read.spec.replicas = 2;
  return apps.replaceNamespacedDeploymentScale({ namespace, name: "web", body: read });
};
call("scale", (await rewrite(scale, toTwo)).spec.replicas, 2);
await until("scaled", ready, 2);
const pods = await core.listNamespacedPod({ namespace, labelSelector: "app=web" });
call("pods", pods.items.length, 2);
const name = pods.items[0].metadata.name;
call("log", typeof (await core.readNamespacedPodLog({ namespace, name })), "string");
const said = new PassThrough();
const ended = await new Promise((resolve, reject) => {
  const command = ["/skiff", "version"];
  new k8s.Exec(config).exec(namespace, name, "web", command, said, said, null, false, resolve).catch(reject);
});
call("exec", [ended.status, `${said.read()}`.startsWith("skiff ")], ["Success", true]);
call("delete pod", (await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 })).metadata.name, name);
const service = { metadata: { name: "web" }, spec: { selector: labels, ports: [{ port: 80, targetPort: 8080 }] } };
call("service", (await core.createNamespacedService({ namespace, body: service })).spec.ports[0].targetPort, 8080);
call("ingress classes", names(await net.listIngressClass()), ["skiff"]);
call("service ranges", names(await net.listServiceCIDR()), ["kubernetes"]);
const review = { spec: { resourceAttributes: { verb: "list", resource: "pods" } } };
const authorization = config.makeApiClient(k8s.AuthorizationV1Api);
call("may I", (await authorization.createSelfSubjectAccessReview({ body: review })).status.allowed);

// Objects of any kind.
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const any = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "any", namespace }, data: { a: "1" } };
call("create any", (await objects.create(any)).data, { a: "1" });
call("read any", (await objects.read(any)).metadata.name, "any");
any.data.a = "2";
const apply = [any, undefined, undefined, "js", true, k8s.PatchStrategy.ServerSideApply];
call("server-side apply", (await objects.patch(...apply)).data.a, "2");
call("list any", (await objects.list("v1", "ConfigMap", namespace)).items.length > 1);
call("delete any", (await objects.delete(any)).status, "Success");
call("delete deployment", (await apps.deleteNamespacedDeployment({ namespace, name: "web" })).status, "Success");
await until("pods are gone", async () => (await core.listNamespacedPod({ namespace })).items, []);
await core.deleteNamespace({ name: namespace });
const gone = () => core.readNamespace({ name: namespace }).then(() => 200, (err) => err.code);
await until("namespace is gone", gone, 404);
console.log(count());
process.exit(0);
