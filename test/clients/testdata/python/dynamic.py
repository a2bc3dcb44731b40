"""Custom resources by the plain and by the dynamic client."""
import os
from kubernetes import client, config, dynamic
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import NotFoundError

ns = os.environ["NS"]
group = ns + ".py.example.com"
api = config.new_client_from_config()
crd = {"metadata": {"name": "boats." + group}, "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
       "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
           "type": "object", "properties": {"status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}, "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"crew": {"type": "integer"}}}}}}}]}}
extensions = client.ApiextensionsV1Api(api)
extensions.create_custom_resource_definition(crd)
d = dynamic.DynamicClient(api)
kinds = d.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
for e in kinds.watch(field_selector="metadata.name=boats." + group, timeout=20):
    if any(c.type == "Established" and c.status == "True" for c in e["object"].status.conditions or []):
        break
custom = client.CustomObjectsApi(api)
boat = {"apiVersion": group + "/v1", "kind": "Boat", "metadata": {"name": "a"}, "spec": {"crew": 1, "more": {"x": [1, 2]}}}
where = (group, "v1", ns, "boats")
print("created", custom.create_namespaced_custom_object(*where, boat)["spec"])
print("patched", custom.patch_namespaced_custom_object(*where, "a", {"spec": {"crew": 2}})["spec"]["crew"])
print("status", custom.patch_namespaced_custom_object_status(*where, "a", {"status": {"ok": True}})["status"])
try:
    custom.patch_namespaced_custom_object(*where, "a", {"spec": {"crew": "x"}})
except ApiException as e:
    print("refused", e.status)

d = dynamic.DynamicClient(api)
boats = d.resources.get(api_version=group + "/v1", kind="Boat")
print("found", boats.name, boats.namespaced, sorted(boats.verbs)[:2])
b = boats.get(name="a", namespace=ns)
print("got", b.spec.more.x)
print("merged", boats.patch(namespace=ns, name="a", body={"spec": {"crew": 3}}, content_type="application/merge-patch+json").spec.crew)
print("pods", d.resources.get(api_version="v1", kind="Pod").get(namespace=ns).kind)
boats.delete(name="a", namespace=ns)
try:
    boats.get(name="a", namespace=ns)
except NotFoundError as e:
    print("gone", e.status)
extensions.delete_custom_resource_definition("boats." + group)
