// Objects of any kind: KubernetesObjectApi, custom resources, discovery.
import * as k8s from '@kubernetes/client-node';

const namespace = process.env.NS, group = `${namespace}.js.example.com`, say = console.log;
const config = new k8s.KubeConfig();
config.loadFromDefault();
const objects = k8s.KubernetesObjectApi.makeApiClient(config), custom = config.makeApiClient(k8s.CustomObjectsApi);
const patch = (type) => k8s.setHeaderOptions('Content-Type', type);

const schema = { type: 'object', properties: { spec: { type: 'object', properties: { crew: { type: 'integer', _default: 2 } } } } };
await objects.create({ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: `boats.${group}` },
  spec: { group, scope: 'Namespaced', names: { plural: 'boats', kind: 'Boat' }, versions: [{ name: 'v1', served: true, storage: true,
    subresources: { status: {} }, schema: { openAPIV3Schema: { ...schema, properties: { ...schema.properties, status: { type: 'object', properties: { ok: { type: 'boolean' } } } } } } }] } });
await new Promise((done) => new k8s.Watch(config).watch('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { fieldSelector: `metadata.name=boats.${group}`, timeoutSeconds: 20 },
  (type, o) => (o.status?.conditions ?? []).some((c) => c.type === 'Established' && c.status === 'True') && done(), done));
const where = { group, version: 'v1', namespace, plural: 'boats', name: 'a' };
const boat = { apiVersion: `${group}/v1`, kind: 'Boat', metadata: { name: 'a', namespace }, spec: {} };
say('created', (await custom.createNamespacedCustomObject({ ...where, body: boat })).spec);
say('patched', (await custom.patchNamespacedCustomObject({ ...where, body: [{ op: 'replace', path: '/spec/crew', value: 3 }] }, patch(k8s.PatchStrategy.JsonPatch))).spec);
say('status', (await custom.patchNamespacedCustomObjectStatus({ ...where, body: { status: { ok: true } } }, patch(k8s.PatchStrategy.MergePatch))).status);
say('read', (await objects.read(boat)).spec);
say('applied', (await objects.patch({ ...boat, spec: { crew: 4 } }, undefined, undefined, 'js', true, k8s.PatchStrategy.ServerSideApply)).spec);
say('refused', await objects.patch({ ...boat, spec: { crew: 'x' } }, undefined, undefined, undefined, undefined, k8s.PatchStrategy.MergePatch).catch((e) => e.code));
say('dry run', (await objects.create({ ...boat, metadata: { ...boat.metadata, name: 'b' } }, undefined, 'All')).metadata.name, (await custom.listNamespacedCustomObject(where)).items.length);
say('listed', (await objects.list('v1', 'ConfigMap', namespace)).kind);
say('deleted', (await objects.delete(boat)).status);
await objects.delete({ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: `boats.${group}` } });
say('groups', (await config.makeApiClient(k8s.ApisApi).getAPIVersions()).groups.some((g) => g.name === 'apps'));
for (const check of ['readyz', 'livez']) say(check, await new k8s.Health(config)[check]({}));
