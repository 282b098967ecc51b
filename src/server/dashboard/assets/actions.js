// What the buttons do: each is one or two requests to the API, the ones that kubectl and oc would send.

import { ask, getJson, pathOf } from "./api.js";
import { KINDS } from "./cluster.js";
import { revisionOf } from "./model.js";

const MERGE = "application/merge-patch+json";
const JSON_PATCH = "application/json-patch+json";
const OPENSHIFT = "apps.openshift.io/v1";

const path = (w, part) => pathOf(KINDS[w.kind], w.ns, w.name, part);

export const scale = (w, replicas) => ask("PATCH", path(w, "scale"), { body: { spec: { replicas } }, type: MERGE });

export function restart(w) {
  if (w.kind === "DeploymentConfig") return rollOutLatest(w);
  const annotations = { "kubectl.kubernetes.io/restartedAt": new Date().toISOString().replace(/\.\d+/, "") };
  return ask("PATCH", path(w), { body: { spec: { template: { metadata: { annotations } } } }, type: MERGE });
}

export const rollOutLatest = (w) =>
  ask("POST", path(w, "instantiate"), { body: { kind: "DeploymentRequest", apiVersion: OPENSHIFT, name: w.name, latest: true, force: true } });

export const setPaused = (w, isPaused) =>
  ask("PATCH", path(w), { body: w.kind === "CronJob" ? { spec: { suspend: isPaused } } : { spec: { paused: isPaused } }, type: MERGE });

/** The revisions before the present one, newest first. */
export function revisions(w) {
  const sets = w.sets.filter((s) => (w.kind === "Deployment" && s.kind === "ReplicaSet") || (w.kind === "DeploymentConfig" && s.kind === "ReplicationController"));
  const all = sets.map(({ object }) => ({ number: revisionOf(object), images: object.spec.template.spec.containers.map((c) => c.image), object }));
  return all.sort((a, b) => b.number - a.number).slice(1);
}

export async function undo(w, revision) {
  if (w.kind === "DeploymentConfig") {
    const rollback = { kind: "DeploymentConfigRollback", apiVersion: OPENSHIFT, name: w.name, spec: { from: {}, revision: revision.number, includeTemplate: true } };
    const rolled = await (await ask("POST", path(w, "rollback"), { body: rollback })).json();
    return ask("PUT", path(w), { body: rolled });
  }
  const template = structuredClone(revision.object.spec.template);
  delete template.metadata?.labels?.["pod-template-hash"];
  return ask("PATCH", path(w), { body: [{ op: "replace", path: "/spec/template", value: template }], type: JSON_PATCH });
}

export const remove = (kind, ns, name) => ask("DELETE", pathOf(KINDS[kind], ns, name), { body: { propagationPolicy: "Background" } });

export const readObject = (kind, ns, name) => getJson(pathOf(KINDS[kind], ns, name));
