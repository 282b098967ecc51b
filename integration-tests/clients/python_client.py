"""The Python client's calls, each with what it must answer. Prints how many distinct ones there were."""

import base64
import json
import sys
import threading

from calls import SOON, call, count, refused, until
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

IMAGE = sys.argv[1]

config.load_kube_config()
api = client.ApiClient()
core, apps, batch = client.CoreV1Api(api), client.AppsV1Api(api), client.BatchV1Api(api)
net, rbac, policy = client.NetworkingV1Api(api), client.RbacAuthorizationV1Api(api), client.PolicyV1Api(api)
NS = "python"
meta = lambda name, **more: client.V1ObjectMeta(name=name, **more)

# The cluster.
call("version", int(client.VersionApi(api).get_code().minor) >= 37)
call("groups", "apps" in [g.name for g in client.ApisApi(api).get_api_versions().groups])
call("core versions", client.CoreApi(api).get_api_versions().versions, ["v1"])
call("resources", "pods" in [r.name for r in core.get_api_resources().resources])
call("nodes", len(core.list_node().items), 1)
node = core.list_node().items[0].metadata.name
call("node", core.read_node(node).status.conditions[-1].type, "Ready")
call("patch node", core.patch_node(node, {"metadata": {"labels": {"py": "yes"}}}).metadata.labels["py"], "yes")

# Namespaces and simple objects.
call("create namespace", core.create_namespace(client.V1Namespace(metadata=meta(NS))).status.phase, "Active")
refused("same namespace", 409, "AlreadyExists", lambda: core.create_namespace(client.V1Namespace(metadata=meta(NS))))
until("service account", lambda: [a.metadata.name for a in core.list_namespaced_service_account(NS).items], ["default"])
made = core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta("cm", labels={"a": "b"}), data={"k": "v"}))
call("create map", made.data, {"k": "v"})
call("read map", core.read_namespaced_config_map("cm", NS).metadata.uid, made.metadata.uid)
call("list by label", [m.metadata.name for m in core.list_namespaced_config_map(NS, label_selector="a=b").items], ["cm"])
call("list by field", len(core.list_config_map_for_all_namespaces(field_selector="metadata.name=cm").items), 1)
made.data["k"] = "w"
call("replace map", core.replace_namespaced_config_map("cm", NS, made).data["k"], "w")
refused("old revision", 409, "Conflict", lambda: core.replace_namespaced_config_map("cm", NS, made))
call("patch map", core.patch_namespaced_config_map("cm", NS, {"data": {"n": "1"}}).data, {"k": "w", "n": "1"})
call("json patch", core.patch_namespaced_config_map("cm", NS, [{"op": "remove", "path": "/data/n"}]).data, {"k": "w"})
call("dry run", core.patch_namespaced_config_map("cm", NS, {"data": {"k": "x"}}, dry_run="All").data["k"], "x")
call("nothing was written", core.read_namespaced_config_map("cm", NS).data["k"], "w")
refused("bad name", 422, "Invalid", lambda: core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta("A b"))))
refused("missing", 404, "NotFound", lambda: core.read_namespaced_config_map("no", NS))
secret = client.V1Secret(metadata=meta("s"), string_data={"k": "v"})
call("create secret", base64.b64decode(core.create_namespaced_secret(NS, secret).data["k"]), b"v")
call("delete secret", core.delete_namespaced_secret("s", NS)["status"], "Success")
for i in range(5):
    core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta(f"page-{i}", labels={"page": "yes"})))
page = core.list_namespaced_config_map(NS, label_selector="page=yes", limit=2)
names = [m.metadata.name for m in page.items]
while page.metadata._continue:
    page = core.list_namespaced_config_map(NS, label_selector="page=yes", limit=2, _continue=page.metadata._continue)
    names += [m.metadata.name for m in page.items]
call("pages", names, [f"page-{i}" for i in range(5)])
call("delete together", core.delete_collection_namespaced_config_map(NS, label_selector="page=yes") is not None)
call("none left", core.list_namespaced_config_map(NS, label_selector="page=yes").items, [])

# Watches, over HTTP.
seen = []
w = watch.Watch()
revision = core.list_namespaced_config_map(NS).metadata.resource_version


def act():
    core.create_namespaced_config_map(NS, client.V1ConfigMap(metadata=meta("seen")))
    core.patch_namespaced_config_map("seen", NS, {"data": {"a": "b"}})
    core.delete_namespaced_config_map("seen", NS)


threading.Thread(target=act).start()
for event in w.stream(core.list_namespaced_config_map, NS, resource_version=revision, timeout_seconds=SOON):
    seen.append((event["type"], event["object"].metadata.name))
    if event["type"] == "DELETED":
        w.stop()
call("watch", seen, [(what, "seen") for what in ("ADDED", "MODIFIED", "DELETED")])

# Workloads.
labels = {"app": "web"}
pod_spec = client.V1PodSpec(
    containers=[client.V1Container(name="web", image=IMAGE, image_pull_policy="IfNotPresent")],
    termination_grace_period_seconds=1,
)
template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels=labels), spec=pod_spec)
spec = client.V1DeploymentSpec(replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=template)
call("create deployment", apps.create_namespaced_deployment(NS, client.V1Deployment(metadata=meta("web"), spec=spec)).spec.replicas, 1)
until("rolled out", lambda: apps.read_namespaced_deployment_status("web", NS).status.ready_replicas, 1)
call("scale", apps.patch_namespaced_deployment_scale("web", NS, {"spec": {"replicas": 2}}).spec.replicas, 2)
call("read scale", apps.read_namespaced_deployment_scale("web", NS).status.selector, "app=web")
until("scaled", lambda: apps.read_namespaced_deployment("web", NS).status.ready_replicas, 2)
call("replica sets", [r.spec.replicas for r in apps.list_namespaced_replica_set(NS).items], [2])
pods = core.list_namespaced_pod(NS, label_selector="app=web", field_selector="status.phase=Running").items
call("pods", len(pods), 2)
call("log", core.read_namespaced_pod_log(pods[0].metadata.name, NS, tail_lines=1) is not None)
run = stream(core.connect_get_namespaced_pod_exec, pods[0].metadata.name, NS, command=["/skiff", "version"],
             stdin=False, stdout=True, stderr=True, tty=False, _preload_content=False)
run.run_forever(timeout=30)
call("exec", (run.read_stdout().startswith("skiff "), run.returncode), (True, 0))
forward = portforward(core.connect_get_namespaced_pod_portforward, pods[0].metadata.name, NS, ports="8080")
forward.socket(8080).sendall(b"GET / HTTP/1.0\r\n\r\n")
call("port-forward", forward.socket(8080).recv(8), b"HTTP/1.0")
call("pod status", core.read_namespaced_pod_status(pods[0].metadata.name, NS).status.phase, "Running")
call("evict", core.create_namespaced_pod_eviction(pods[1].metadata.name, NS, client.V1Eviction(metadata=meta(pods[1].metadata.name))) is not None)
service = client.V1Service(metadata=meta("web"), spec=client.V1ServiceSpec(selector=labels, ports=[client.V1ServicePort(port=80, target_port=8080)]))
call("service", bool(core.create_namespaced_service(NS, service).spec.cluster_ip))
until("endpoints", lambda: len(client.DiscoveryV1Api(api).list_namespaced_endpoint_slice(NS).items), 1)
call("events", len(core.list_namespaced_event(NS).items) > 0)
job = client.V1Job(metadata=meta("j"), spec=client.V1JobSpec(template=client.V1PodTemplateSpec(spec=client.V1PodSpec(restart_policy="Never", containers=pod_spec.containers)), suspend=True))
call("job", batch.create_namespaced_job(NS, job).spec.suspend)
budget = client.V1PodDisruptionBudget(metadata=meta("b"), spec=client.V1PodDisruptionBudgetSpec(min_available="50%", selector=client.V1LabelSelector(match_labels=labels)))
call("budget", policy.create_namespaced_pod_disruption_budget(NS, budget).spec.min_available, "50%")
role = client.V1Role(metadata=meta("r"), rules=[client.V1PolicyRule(api_groups=[""], resources=["pods"], verbs=["get"])])
call("role", rbac.create_namespaced_role(NS, role).rules[0].verbs, ["get"])
call("network policies", net.list_namespaced_network_policy(NS).items, [])
call("service ranges", [c.metadata.name for c in net.list_service_cidr().items], ["kubernetes"])
flow = client.FlowcontrolApiserverV1Api(api)
call("flow schemas", [f.metadata.name for f in flow.list_flow_schema().items], ["catch-all", "exempt"])

# Who may, and the client's other ways.
review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(verb="delete", resource="pods")))
call("may I", client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed)
dyn = dynamic.DynamicClient(api)
maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
call("dynamic list", "cm" in [m.metadata.name for m in maps.get(namespace=NS).items])
applied = dyn.server_side_apply(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ssa"}, "data": {"a": "1"}}, name="ssa", namespace=NS, field_manager="py")
call("server-side apply", applied.data.to_dict(), {"a": "1"})
utils.create_from_dict(api, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "utils"}}, namespace=NS)
call("create from dict", core.read_namespaced_config_map("utils", NS).metadata.name, "utils")
partial = {"header_params": {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}, "serialize": False}
answer = json.loads(dyn.request("get", f"/api/v1/namespaces/{NS}/configmaps/cm", **partial).data)
call("metadata alone", (answer["kind"], "data" in answer), ("PartialObjectMetadata", False))
call("delete deployment", apps.delete_namespaced_deployment("web", NS, propagation_policy="Foreground")["kind"] in ("Status", "Deployment"))
until("pods are gone", lambda: core.list_namespaced_pod(NS).items, [])
call("delete namespace", core.delete_namespace(NS)["kind"] in ("Status", "Namespace"))


def gone():
    try:
        core.read_namespace(NS)
    except ApiException as err:
        return err.status
    return None


until("namespace is gone", gone, 404)
print(count())
