// Calls to OpenShift's groups by npm's openshift-rest-client, each with what it must answer. Prints how many distinct ones there were.

import rest from "openshift-rest-client";
import { call, count, errorOf, rewrite, until } from "./calls.mjs";

const image = process.argv[2];
const namespace = "openshift-js";

// A call that is refused with this code.
const refused = async (what, code, act) => {
  const err = await errorOf(what, act);
  call(what, err.statusCode ?? err.code, code);
};

// The paths are those that the server tells in its OpenAPI document.
const client = await rest.OpenshiftClient({ config: process.env.KUBECONFIG });
const { apis, api } = client;
const ofApps = () => apis["apps.openshift.io"].v1.ns(namespace);
const body = async (request) => (await request).body;

// Projects and users.
const project = { apiVersion: "project.openshift.io/v1", kind: "ProjectRequest", metadata: { name: namespace } };
call("new project", (await body(apis["project.openshift.io"].v1.projectrequests.post({ body: project }))).metadata.name, namespace);
call("projects", (await body(apis["project.openshift.io"].v1.projects.get())).items.some((p) => p.metadata.name === namespace));
call("who", (await body(apis["user.openshift.io"].v1.users("~").get())).metadata.name, "kubernetes-admin");

// A DeploymentConfig.
const template = {
  metadata: { labels: { app: "web" } },
  spec: { terminationGracePeriodSeconds: 0, containers: [{ name: "c", image, imagePullPolicy: "IfNotPresent" }] },
};
const config = {
  apiVersion: "apps.openshift.io/v1",
  kind: "DeploymentConfig",
  metadata: { name: "web" },
  spec: { replicas: 1, selector: { app: "web" }, triggers: [{ type: "ConfigChange" }], template },
};
call("create", (await body(ofApps().deploymentconfigs.post({ body: config }))).spec.strategy.type, "Rolling");
await refused("the same", 409, () => ofApps().deploymentconfigs.post({ body: config }));
const web = () => body(ofApps().deploymentconfigs("web").get());
await until("rolled out", async () => (await web()).status.availableReplicas, 1);
call("list", (await body(ofApps().deploymentconfigs.get({ qs: { labelSelector: "!x" } }))).items.length, 1);
const rc = (name) => body(api.v1.namespaces(namespace).replicationcontrollers(name).get());
const phase = async (name) => (await rc(name)).metadata.annotations["openshift.io/deployment.phase"];
await until("complete", () => phase("web-1"), "Complete");
const again = { kind: "DeploymentRequest", apiVersion: "apps.openshift.io/v1", name: "web", latest: true, force: true };
const second = await body(ofApps().deploymentconfigs("web").instantiate.post({ body: again }));
call("instantiate", second.status.latestVersion, 2);
await until("second", async () => phase("web-2").catch(() => ""), "Complete");
const scale = () => body(ofApps().deploymentconfigs("web").scale.get());
const { kind, spec } = await scale();
call("scale", [kind, spec.replicas], ["Scale", 1]);
const toTwo = (read) => body(ofApps().deploymentconfigs("web").scale.put({ body: { ...read, spec: { replicas: 2 } } }));
call("scale it", (await rewrite(scale, toTwo)).spec.replicas, 2);
await until("scaled", async () => (await web()).status.availableReplicas, 2);
let changed;
const pause = (read) => {
  changed = { ...read, spec: { ...read.spec, paused: true } };
  return body(ofApps().deploymentconfigs("web").put({ body: changed }));
};
call("put", (await rewrite(web, pause)).spec.paused);
await refused("of an old revision", 409, () => ofApps().deploymentconfigs("web").put({ body: changed }));
await refused("nobody", 404, () => ofApps().deploymentconfigs("nobody").get());

// A stream, a route and a template.
const stream = {
  apiVersion: "image.openshift.io/v1",
  kind: "ImageStream",
  metadata: { name: "hello" },
  spec: { tags: [{ name: "latest", from: { kind: "DockerImage", name: image } }] },
};
const ofImages = apis["image.openshift.io"].v1.ns(namespace);
call("stream", (await body(ofImages.imagestreams.post({ body: stream }))).metadata.name, "hello");
const items = async () => ((await body(ofImages.imagestreams("hello").get())).status.tags ?? []).map((tag) => tag.items?.length ?? 0);
await until("its tag", items, [1]);
const route = { apiVersion: "route.openshift.io/v1", kind: "Route", metadata: { name: "web" }, spec: { to: { kind: "Service", name: "web" } } };
const ofRoutes = apis["route.openshift.io"].v1.ns(namespace);
call("route", (await body(ofRoutes.routes.post({ body: route }))).spec.host, `web-${namespace}.apps.localhost`);
const form = {
  apiVersion: "template.openshift.io/v1",
  kind: "Template",
  metadata: { name: "map" },
  parameters: [{ name: "N", value: "3" }],
  objects: [{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "map-${N}" }, data: { n: "${N}" } }],
};
const made = await body(apis["template.openshift.io"].v1.ns(namespace).processedtemplates.post({ body: form }));
call("processed", made.objects[0].metadata.name, "map-3");

call("tag", (await body(ofImages.imagestreamtags("hello:latest").get())).image.metadata.name.slice(0, 7), "sha256:");

// The end.
call("delete route", (await ofRoutes.routes("web").delete()).statusCode, 200);
call("delete config", (await ofApps().deploymentconfigs("web").delete()).statusCode, 200);
await until("its rollouts go", async () => (await body(api.v1.namespaces(namespace).replicationcontrollers.get())).items.length, 0);
call("delete project", (await apis["project.openshift.io"].v1.projects(namespace).delete()).statusCode, 200);
console.log(count());
