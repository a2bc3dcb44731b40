"""What programs do with the typed client: each line printed is one thing that went as it should."""
import base64, datetime, logging, os, threading, yaml
from kubernetes import client, config, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.stream import stream

ns = os.environ["NS"]
logging.disable()
config.load_kube_config()
core, apps, batch, custom = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api(), client.CustomObjectsApi()


def refused(code, call, *args, **more):
    try:
        call(*args, **more)
    except ApiException as e:
        assert e.status == code, e
        return yaml.safe_load(e.body).get("reason") if e.body else e.reason
    raise AssertionError("not refused")


print("version", client.VersionApi().get_code().major)
meta = client.V1ObjectMeta(name="c", labels={"app": "py"})
made = core.create_namespaced_config_map(ns, client.V1ConfigMap(metadata=meta, data={"a": "1"}))
print("created", made.data, type(made.metadata.creation_timestamp).__name__)
print("again", refused(409, core.create_namespaced_config_map, ns, {"metadata": {"name": "c"}}))
made.data["b"] = "2"
print("replaced", core.replace_namespaced_config_map("c", ns, made).data)
print("replaced with an old version", refused(409, core.replace_namespaced_config_map, "c", ns, made))
print("patched", core.patch_namespaced_config_map("c", ns, {"data": {"a": None, "c": "3"}}).data)
print("patched by JSON patch", core.patch_namespaced_config_map("c", ns, [{"op": "replace", "path": "/data/c", "value": "4"}]).data)
print("listed", [i.metadata.name for i in core.list_namespaced_config_map(ns, label_selector="app=py").items])
page = core.list_config_map_for_all_namespaces(limit=1)
print("paged", bool(page.metadata._continue), len(core.list_config_map_for_all_namespaces(limit=1, _continue=page.metadata._continue).items))
print("invalid", refused(422, core.create_namespaced_config_map, ns, {"metadata": {"name": "A_B"}}))
core.create_namespaced_secret(ns, client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"k": "v"}))
print("secret", base64.b64decode(core.read_namespaced_secret("s", ns).data["k"]).decode())

pod = {"metadata": {"labels": {"app": "py"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
body = {"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "py"}}, "template": pod}}
print("deployment", apps.create_namespaced_deployment(ns, body).spec.strategy.rolling_update.max_surge)
scale = apps.read_namespaced_deployment_scale("d", ns)
scale.spec.replicas, scale.metadata.resource_version = 2, None
print("scaled", apps.replace_namespaced_deployment_scale("d", ns, scale).spec.replicas)
utils.create_from_dict(client.ApiClient(), {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", **pod["spec"]}}}}, namespace=ns)
print("job", batch.read_namespaced_job("j", ns).spec.suspend)
core.create_namespaced_pod(ns, {"metadata": {"name": "p"}, **{k: v for k, v in pod.items() if k == "spec"}})
print("log of a pod without node", refused(400, core.read_namespaced_pod_log, "p", ns))
try:
    stream(core.connect_get_namespaced_pod_exec, "p", ns, command=["true"], stdout=True)
except ApiException as e:
    print("exec in it", e.reason.split("\n")[0].split(" -+-+-")[0])

seen, w = [], watch.Watch()
threading.Timer(0.5, lambda: (core.patch_namespaced_config_map("c", ns, {"data": {"n": "5"}}), core.delete_namespaced_config_map("c", ns))).start()
for e in w.stream(core.list_namespaced_config_map, ns, field_selector="metadata.name=c", timeout_seconds=20):
    seen.append((e["type"], e["object"].data.get("n")))
    if e["type"] == "DELETED":
        w.stop()
print("watched", seen)

lease = client.CoordinationV1Api()
now = datetime.datetime.now(datetime.timezone.utc)
lease.create_namespaced_lease(ns, client.V1Lease(metadata={"name": "l"}, spec=client.V1LeaseSpec(holder_identity="me", renew_time=now)))
print("lease", (lease.read_namespaced_lease("l", ns).spec.renew_time - now).total_seconds())
review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(verb="get", resource="pods")))
print("may", client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed)

os.environ.pop("POD", None)
led = threading.Event()
lock = ConfigMapLock("leader", ns, "me")
threading.Thread(target=leaderelection.LeaderElection(electionconfig.Config(lock, 4, 3, 1, onstarted_leading=led.set, onstopped_leading=None)).run, daemon=True).start()
print("leads", led.wait(20))
core.delete_collection_namespaced_config_map(ns, label_selector="app=py")
status = apps.delete_namespaced_deployment("d", ns, propagation_policy="Foreground")
print("deleted", status.status is not None)
