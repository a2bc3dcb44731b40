// What programs do with the typed client, its watch and its informer: each line printed is one thing that went as it should.
import { setTimeout as wait } from 'node:timers/promises';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const namespace = process.env.NS, say = console.log;
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api), apps = config.makeApiClient(k8s.AppsV1Api);
const refused = async (promise) => promise.then(() => { throw new Error('not refused'); }, (e) => `${e.code} ${JSON.parse(e.body).reason}`);
const patch = (type) => k8s.setHeaderOptions('Content-Type', type);
const named = (name, more) => ({ namespace, name, ...more });

say('version', (await config.makeApiClient(k8s.VersionApi).getCode()).major);
let made = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'c', labels: { app: 'js' } }, data: { a: '1' } } });
say('created', made.data, made.metadata.creationTimestamp instanceof Date);
say('again', await refused(core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'c' } } })));
made.data.b = '2';
say('replaced', (await core.replaceNamespacedConfigMap(named('c', { body: made }))).data);
say('replaced with an old version', await refused(core.replaceNamespacedConfigMap(named('c', { body: made }))));
say('merged', (await core.patchNamespacedConfigMap(named('c', { body: { data: { a: null } } }), patch(k8s.PatchStrategy.MergePatch))).data);
say('strategic', (await core.patchNamespacedConfigMap(named('c', { body: { data: { d: '4' } } }), patch(k8s.PatchStrategy.StrategicMergePatch))).data);
say('JSON patch', (await core.patchNamespacedConfigMap(named('c', { body: [{ op: 'remove', path: '/data/d' }] }), patch(k8s.PatchStrategy.JsonPatch))).data);
say('applied', (await core.patchNamespacedConfigMap(named('c', { fieldManager: 'js', force: true,
  body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' }, data: { e: '5' } } }), patch(k8s.PatchStrategy.ServerSideApply))).data);
say('listed', (await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=js' })).items.map((i) => i.metadata.name));
const page = await core.listConfigMapForAllNamespaces({ limit: 1 });
say('paged', (await core.listConfigMapForAllNamespaces({ limit: 1, _continue: page.metadata._continue })).items.length);
say('invalid', await refused(core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'A_B' } } })));

const pod = { metadata: { labels: { app: 'js' } }, spec: { containers: [{ name: 'c', image: 'busybox', ports: [{ containerPort: 80 }], resources: { limits: { cpu: '1500m' } } }] } };
const d = await apps.createNamespacedDeployment({ namespace, body: { metadata: { name: 'd' }, spec: { replicas: 0, selector: { matchLabels: { app: 'js' } }, template: pod } } });
say('deployment', d.spec.strategy.rollingUpdate.maxSurge, d.spec.template.spec.containers[0].resources.limits.cpu);
say('scale', (await apps.patchNamespacedDeploymentScale(named('d', { body: { spec: { replicas: 1 } } }), patch(k8s.PatchStrategy.MergePatch))).spec.replicas);
await core.createNamespacedPod({ namespace, body: { metadata: { name: 'p' }, spec: pod.spec } });
say('log of a pod without node', await refused(core.readNamespacedPodLog(named('p'))));
const nowhere = new Writable({ write: (a, b, done) => done() });
await new k8s.Exec(config).exec(namespace, 'p', 'c', ['true'], nowhere, nowhere, null, false).then(() => say('?'), (e) => say('exec in it', e.message ?? e.error?.message ?? e.type));

const path = `/api/v1/namespaces/${namespace}/configmaps`, seen = [];
const watching = new k8s.Watch(config).watch(path, { fieldSelector: 'metadata.name=w' }, (type, o) => seen.push(`${type} ${o.data?.n}`), () => {});
const informer = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace }), 'app=informed');
const told = [], added = new Promise((done) => informer.on('add', (o) => { told.push('add ' + o.metadata.name); done(); }));
const gone = new Promise((done) => informer.on('delete', (o) => { told.push('delete ' + o.metadata.name); done(); }));
informer.on('update', (o) => told.push('update ' + o.metadata.name));
const controller = await watching;
await informer.start();
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'w', labels: { app: 'informed' } } } });
await added;
await core.patchNamespacedConfigMap(named('w', { body: { data: { n: '1' } } }), patch(k8s.PatchStrategy.MergePatch));
await core.deleteNamespacedConfigMap(named('w'));
await gone;
for (let i = 0; i < 100 && seen.length < 3; i++) await wait(50);
say('watched', seen);
say('informed', told.filter((e) => e.endsWith(' w')));
controller.abort();
await informer.stop();
say('deleted', (await apps.deleteNamespacedDeployment(named('d', { propagationPolicy: 'Background' }))).status);
