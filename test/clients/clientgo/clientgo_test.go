// Package clientgo uses client-go as programs do, against a running server. make clients runs it once with the
// defaults, once with client-go's newer features switched over (CBOR preferred, no streaming lists).
package clientgo

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/watch"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/client-go/util/retry"
)

const limit = 40 * time.Second

func setup(t *testing.T) (context.Context, *rest.Config, *kubernetes.Clientset, string) {
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("needs KUBECONFIG: see make clients")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must(t, err)
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	ctx, end := context.WithTimeout(t.Context(), limit)
	t.Cleanup(end)
	ns, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "clients-go-"}}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		must(t, client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}))
	})
	return ctx, config, client, ns.Name
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Aggregated discovery and the older one, group by group, must name the same resources.
func TestDiscovery(t *testing.T) {
	_, config, _, _ := setup(t)
	found := func(legacy bool) sets.Set[string] {
		d, err := discovery.NewDiscoveryClientForConfig(config)
		must(t, err)
		d.UseLegacyDiscovery = legacy
		_, lists, err := d.ServerGroupsAndResources()
		must(t, err)
		names := sets.New[string]()
		for _, l := range lists {
			for _, r := range l.APIResources {
				names.Insert(l.GroupVersion + " " + r.Name + " " + r.Kind + " " + r.Verbs.String())
			}
		}
		return names
	}
	newer, older := found(false), found(true)
	if newer.Len() < 100 || !newer.Equal(older) {
		t.Errorf("%d resources; not in the older: %v; not in the newer: %v", newer.Len(), newer.Difference(older), older.Difference(newer))
	}
}

// Every resource that can be watched fills informers: dynamic, of metadata, and typed where there is a type.
func TestInformers(t *testing.T) {
	ctx, config, client, _ := setup(t)
	lists, err := discovery.ServerPreferredResources(client.Discovery())
	must(t, err)
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "watch"}}, lists)
	resources, err := discovery.GroupVersionResources(lists)
	must(t, err)
	objects, err := dynamic.NewForConfig(config)
	must(t, err)
	metas, err := metadata.NewForConfig(config)
	must(t, err)
	dynamics, metadatas, typed := dynamicinformer.NewDynamicSharedInformerFactory(objects, 0), metadatainformer.NewSharedInformerFactory(metas, 0), informers.NewSharedInformerFactory(client, 0)
	synced := map[string]cache.InformerSynced{}
	for r := range resources {
		synced["dynamic "+r.String()] = dynamics.ForResource(r).Informer().HasSynced
		synced["metadata "+r.String()] = metadatas.ForResource(r).Informer().HasSynced
		if i, err := typed.ForResource(r); err == nil {
			synced["typed "+r.String()] = i.Informer().HasSynced
		}
	}
	ctx, end := context.WithCancel(ctx)
	dynamics.Start(ctx.Done())
	metadatas.Start(ctx.Done())
	typed.Start(ctx.Done())
	for name, ok := range synced {
		if !cache.WaitForCacheSync(ctx.Done(), ok) {
			t.Errorf("%s is not filled", name)
		}
	}
	end()
	dynamics.Shutdown()
	metadatas.Shutdown()
	typed.Shutdown()
	t.Logf("%d informers of %d resources", len(synced), len(resources))
}

// Each encoding that a typed client can speak.
func TestEncodings(t *testing.T) {
	ctx, config, _, ns := setup(t)
	for name, kind := range map[string]string{"json": "application/json", "protobuf": "application/vnd.kubernetes.protobuf", "cbor": "application/cbor"} {
		c := rest.CopyConfig(config)
		c.ContentType, c.AcceptContentTypes = kind, kind+",application/json"
		if name == "cbor" && os.Getenv("KUBE_FEATURE_ClientsAllowCBOR") == "" {
			continue
		}
		client, err := kubernetes.NewForConfig(c)
		must(t, err)
		maps := client.CoreV1().ConfigMaps(ns)
		w, err := maps.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		must(t, err)
		made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, BinaryData: map[string][]byte{"b": {0, 255}}}
		_, err = maps.Create(ctx, made, metav1.CreateOptions{})
		for err != nil && name == "cbor" && ctx.Err() == nil { // refused once, by a server that does not speak it; then sent as JSON
			t.Logf("cbor: %v", err)
			_, err = maps.Create(ctx, made, metav1.CreateOptions{})
		}
		must(t, err)
		if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.ConfigMap).BinaryData["b"][1] != 255 {
			t.Errorf("%s: watched %v", name, e)
		}
		w.Stop()
		_, err = maps.Patch(ctx, name, types.StrategicMergePatchType, []byte(`{"data":{"a":"b"}}`), metav1.PatchOptions{})
		must(t, err)
	}
}

// Update with retries, apply with extraction, the scale client, a watch that starts again, and waiting.
func TestObjects(t *testing.T) {
	ctx, config, client, ns := setup(t)
	maps := client.CoreV1().ConfigMaps(ns)
	made, err := maps.Apply(ctx, corev1apply.ConfigMap("a", ns).WithData(map[string]string{"x": "1", "y": "2"}), metav1.ApplyOptions{FieldManager: "m"})
	must(t, err)
	mine, err := corev1apply.ExtractConfigMap(made, "m")
	must(t, err)
	delete(mine.Data, "y")
	made, err = maps.Apply(ctx, mine, metav1.ApplyOptions{FieldManager: "m"})
	must(t, err)
	if len(made.Data) != 1 {
		t.Errorf("applied %v", made.Data)
	}
	stale := made.DeepCopy()
	_, err = maps.Patch(ctx, "a", types.MergePatchType, []byte(`{"data":{"z":"3"}}`), metav1.PatchOptions{})
	must(t, err)
	tries := 0
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if tries++; tries > 1 {
			stale, err = maps.Get(ctx, "a", metav1.GetOptions{})
			must(t, err)
		}
		stale.Data["w"] = "4"
		_, err := maps.Update(ctx, stale, metav1.UpdateOptions{})
		return err
	}))
	if tries != 2 {
		t.Errorf("%d tries", tries)
	}
	scaled(ctx, t, config, client, ns)
	rw, err := watchtools.NewRetryWatcherWithContext(ctx, made.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		return maps.Watch(ctx, o)
	}})
	must(t, err)
	if e := <-rw.ResultChan(); e.Type != watch.Modified {
		t.Errorf("watched %v", e.Type)
	}
	rw.Stop()
	must(t, maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=a"}))
}

// scaled changes a Deployment through its scale, as autoscalers do.
func scaled(ctx context.Context, t *testing.T, config *rest.Config, client *kubernetes.Clientset, ns string) {
	labels := map[string]string{"app": "d"}
	none := int32(0)
	_, err := client.AppsV1().Deployments(ns).Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &none,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}}}, metav1.CreateOptions{})
	must(t, err)
	cached := memory.NewMemCacheClient(client.Discovery())
	scales, err := scale.NewForConfig(config, restmapper.NewDeferredDiscoveryRESTMapper(cached), dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(cached))
	must(t, err)
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	s, err := scales.Scales(ns).Get(ctx, deployments, "d", metav1.GetOptions{})
	must(t, err)
	s.Spec.Replicas, s.ResourceVersion = 2, ""
	s, err = scales.Scales(ns).Update(ctx, deployments, s, metav1.UpdateOptions{})
	must(t, err)
	if s.Spec.Replicas != 2 || s.Status.Selector != "app=d" {
		t.Errorf("scale %+v", s)
	}
}

// Two candidates, of whom one leads; the other takes over when it lets go.
func TestLeaderElection(t *testing.T) {
	ctx, _, client, ns := setup(t)
	var leads atomic.Value
	run := func(ctx context.Context, name string) chan struct{} {
		lock := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: ns, Name: "l"}, Client: client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: name}}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{Lock: lock, LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
				ReleaseOnCancel: true, Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { leads.Store(name) }, OnStoppedLeading: func() {}}})
		}()
		return ended
	}
	until := func(name string) {
		for leads.Load() != name && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		must(t, ctx.Err())
	}
	first, leave := context.WithCancel(ctx)
	one := run(first, "one")
	until("one")
	second, stop := context.WithCancel(ctx)
	two := run(second, "two")
	leave()
	<-one
	until("two")
	stop()
	<-two
}
