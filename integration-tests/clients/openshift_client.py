"""Calls to OpenShift's groups by Python's `openshift` client, each with what it must answer. Prints how many distinct ones there were."""

import sys

from calls import call, count, refused, until
from kubernetes import client, config
from openshift.dynamic import DynamicClient

IMAGE = sys.argv[1]

config.load_kube_config()
api = DynamicClient(client.ApiClient())
of = lambda group, kind: api.resources.get(api_version=f"{group}.openshift.io/v1", kind=kind)
configs, streams, routes = of("apps", "DeploymentConfig"), of("image", "ImageStream"), of("route", "Route")
projects, requests = of("project", "Project"), of("project", "ProjectRequest")
templates = of("template", "Template")
rcs = api.resources.get(api_version="v1", kind="ReplicationController")
NS = "openshift-python"


def phase(name):
    """How far a rollout is; nothing while there is none."""
    found = [r for r in rcs.get(namespace=NS).items if r.metadata.name == name]
    return found[0].metadata.annotations["openshift.io/deployment.phase"] if found else None



# Projects and users.
call("new project", requests.create(body={"metadata": {"name": NS}, "displayName": "Python's"}).metadata.name, NS)
call("project", projects.get(name=NS).metadata.annotations["openshift.io/display-name"], "Python's")
call("projects", NS in [p.metadata.name for p in projects.get().items])
refused("the same project", 409, "AlreadyExists", lambda: requests.create(body={"metadata": {"name": NS}}))
call("who", of("user", "User").get(name="~").metadata.name, "kubernetes-admin")

# Image streams.
stream = {"apiVersion": "image.openshift.io/v1", "kind": "ImageStream", "metadata": {"name": "hello"}}
stream["spec"] = {"tags": [{"name": "latest", "from": {"kind": "DockerImage", "name": IMAGE}}]}
call("stream", streams.create(body=stream, namespace=NS).metadata.name, "hello")
tags = of("image", "ImageStreamTag")
got = lambda: [t.tag for t in streams.get(name="hello", namespace=NS).status.tags or [] if t["items"]]
until("tag", got, ["latest"])
call("its image", tags.get(name="hello:latest", namespace=NS).image.metadata.name.startswith("sha256:"))
made_of = streams.layers.get(name="hello", namespace=NS).to_dict()
call("its layers", [len(image["layers"]) > 0 for image in made_of["images"].values()], [True])
call("its secrets", streams.secrets.get(name="hello", namespace=NS).kind, "SecretList")
builds = of("build", "BuildConfig")
call("no builds", builds.get(namespace=NS).items, [])
web = {"apiVersion": "build.openshift.io/v1", "kind": "BuildConfig", "metadata": {"name": "web"}}
refused("a build", 400, "BadRequest", lambda: builds.create(body=web, namespace=NS))

# A DeploymentConfig that follows it.
template = {"metadata": {"labels": {"app": "web"}}}
template["spec"] = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": " "}]}
change = {"automatic": True, "containerNames": ["c"], "from": {"kind": "ImageStreamTag", "name": "hello:latest"}}
triggers = [{"type": "ConfigChange"}, {"type": "ImageChange", "imageChangeParams": change}]
dc = {"apiVersion": "apps.openshift.io/v1", "kind": "DeploymentConfig", "metadata": {"name": "web"}}
dc["spec"] = {"replicas": 1, "selector": {"app": "web"}, "triggers": triggers, "template": template}
made = configs.create(body=dc, namespace=NS)
call("config", (made.spec.strategy.type, made.spec.revisionHistoryLimit), ("Rolling", 10))
refused("the same config", 409, "AlreadyExists", lambda: configs.create(body=dc, namespace=NS))
until("rolled out", lambda: phase("web-1"), "Complete")
until("available", lambda: configs.get(name="web", namespace=NS).status.availableReplicas, 1)
call("by label", [r.metadata.name for r in rcs.get(namespace=NS, label_selector="openshift.io/deployment-config.name=web").items], ["web-1"])
call("scale", configs.scale.patch(name="web", namespace=NS, body={"spec": {"replicas": 2}}, content_type="application/merge-patch+json").spec.replicas, 2)
until("scaled", lambda: configs.get(name="web", namespace=NS).status.availableReplicas, 2)
patch = {"spec": {"template": {"metadata": {"annotations": {"round": "2"}}}}}
call("patch", configs.patch(name="web", namespace=NS, body=patch, content_type="application/strategic-merge-patch+json").spec.template.metadata.annotations.round, "2")
until("second", lambda: configs.get(name="web", namespace=NS).status.latestVersion, 2)
until("complete", lambda: phase("web-2"), "Complete")
again = {"kind": "DeploymentRequest", "apiVersion": "apps.openshift.io/v1", "name": "web", "latest": True, "force": True}
call("instantiate", configs.instantiate.create(name="web", namespace=NS, body=again).status.latestVersion, 3)
until("third", lambda: phase("web-3"), "Complete")
back = {"kind": "DeploymentConfigRollback", "apiVersion": "apps.openshift.io/v1", "name": "web", "spec": {"revision": 1, "includeTemplate": True}}
rolled = configs.rollback.create(name="web", namespace=NS, body=back)
call("rollback", rolled.spec.template.metadata.annotations, None)
refused("too far", 422, "Invalid", lambda: configs.rollback.create(name="web", namespace=NS, body={**back, "spec": {"revision": 99, "includeTemplate": True}}))

# Routes.
route = {"apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": {"name": "web"}, "spec": {"to": {"kind": "Service", "name": "web"}}}
call("route", routes.create(body=route, namespace=NS).spec.host, f"web-{NS}.apps.localhost")
until("admitted", lambda: [c.status for i in routes.get(name="web", namespace=NS).status.ingress or [] for c in i.conditions], ["True"])
bad = {**route, "metadata": {"name": "bad"}, "spec": {"host": "no host", "to": {"kind": "Service", "name": "web"}}}
refused("no host", 422, "Invalid", lambda: routes.create(body=bad, namespace=NS))

# Templates.
form = {"apiVersion": "template.openshift.io/v1", "kind": "Template", "metadata": {"name": "map"}, "parameters": [{"name": "N", "required": True}, {"name": "K", "generate": "expression", "from": "[0-9]{6}"}]}
form["objects"] = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map-${N}"}, "data": {"key": "${K}"}}]
call("template", templates.create(body=form, namespace=NS).metadata.name, "map")
process = of("template", "ProcessedTemplate")
refused("no value", 422, "Invalid", lambda: process.create(body=form, namespace=NS))
form["parameters"][0]["value"] = "7"
done = process.create(body=form, namespace=NS)
call("processed", (done.objects[0].metadata.name, len(done.objects[0].data.key)), ("map-7", 6))
call("templates", [t.metadata.name for t in templates.get(namespace=NS).items], ["map"])

# The end.
call("delete route", routes.delete(name="web", namespace=NS).status, "Success")
call("delete config", configs.delete(name="web", namespace=NS, body={"propagationPolicy": "Foreground"}).kind in ("Status", "DeploymentConfig"))
until("all of it goes", lambda: [r.metadata.name for r in rcs.get(namespace=NS).items], [])
call("delete project", projects.delete(name=NS).status, "Success")
until("it goes", lambda: NS in [p.metadata.name for p in projects.get().items], False)
print(count())
