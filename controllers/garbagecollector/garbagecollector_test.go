package garbagecollector

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

var pods = kind{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, namespaced: true}

func thing(uid string, owners ...string) *item {
	i := &item{kind: pods, namespace: "a", name: uid, uid: types.UID(uid), version: "1"}
	for _, o := range owners {
		i.owners = append(i.owners, metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: o, UID: types.UID(o), BlockOwnerDeletion: ptr.To(true)})
	}
	return i
}

func dying(i *item, finalizers ...string) *item {
	i.deleting, i.finalizers = true, finalizers
	return i
}

func TestGraphAsksOnlyForWhatMatters(t *testing.T) {
	g := newGraph()
	for _, step := range []struct {
		name string
		do   func() []types.UID
		want []types.UID
	}{
		{"an owner", func() []types.UID { return g.observe(thing("o")) }, nil},
		{"its dependent", func() []types.UID { return g.observe(thing("d", "o")) }, nil},
		{"another, of two", func() []types.UID { return g.observe(thing("e", "o", "x")) }, []types.UID{"e"}},
		{"the owner waits", func() []types.UID { return g.observe(dying(thing("o"), metav1.FinalizerDeleteDependents)) }, []types.UID{"d", "e", "o"}},
		{"one dependent goes", func() []types.UID { return g.gone("d") }, []types.UID{"o"}},
		{"one leaves it", func() []types.UID { return g.observe(thing("e", "x")) }, []types.UID{"e", "o"}},
		{"an owner never seen goes", func() []types.UID { return g.gone("x") }, nil},
		{"its own owner appears", func() []types.UID { return g.observe(thing("x")) }, nil},
		{"and goes", func() []types.UID { return g.gone("x") }, []types.UID{"e"}},
	} {
		got := step.do()
		slices.Sort(got)
		if !slices.Equal(slices.Compact(got), step.want) {
			t.Fatalf("%s: got %v, want %v", step.name, got, step.want)
		}
	}
	e, _ := g.find("e")
	if p := g.presence(e, e.owners[0]); p != absent {
		t.Fatalf("owner seen to go: %v", p)
	}
}

func TestDecide(t *testing.T) {
	bg, fg, orphan := metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan
	with := func(i *item, f ...string) *item { i.finalizers = f; return i }
	for _, c := range []struct {
		name       string
		item       *item
		owners     []presence
		dependents []*item
		want       action
	}{
		{"owner stays", thing("d", "o"), []presence{solid}, nil, action{}},
		{"owner gone", thing("d", "o"), []presence{absent}, nil, action{delete: bg}},
		{"keeps its policy", with(thing("d", "o"), metav1.FinalizerOrphanDependents), []presence{absent}, nil, action{delete: orphan}},
		{"keeps its policy", with(thing("d", "o"), metav1.FinalizerDeleteDependents), []presence{absent}, nil, action{delete: fg}},
		{"owner waits", thing("d", "o"), []presence{waiting}, nil, action{delete: bg}},
		{"owner waits, has dependents", thing("d", "o"), []presence{waiting}, []*item{thing("e", "d")}, action{delete: fg}},
		{"a circle", thing("d", "o"), []presence{waiting}, []*item{dying(thing("o", "d"), metav1.FinalizerDeleteDependents)}, action{unblock: true, delete: fg}},
	} {
		if got := decide(c.item, c.owners, c.dependents); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	d := thing("d", "o", "p")
	if got := decide(d, []presence{absent, solid}, nil); !got.drop || len(got.keep) != 1 || got.keep[0].UID != "p" || got.delete != "" {
		t.Errorf("one of two stays: %v", got)
	}
}

func TestOwnerInAnotherNamespaceDoesNotCount(t *testing.T) {
	g := newGraph()
	o := thing("o")
	o.namespace = "b"
	g.observe(o)
	d := thing("d", "o")
	if look := g.observe(d); len(look) != 1 || g.presence(d, d.owners[0]) != unseen {
		t.Fatal("an owner in another namespace is taken for one")
	}
}

func TestCollects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ref := func(uid string) []metav1.OwnerReference {
			return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: types.UID(uid)}}
		}
		client := fake.NewClientset(
			&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "rs", UID: "rs-1"}},
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "kept", UID: "p1", OwnerReferences: ref("rs-1")}},
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "of-an-older", UID: "p2", OwnerReferences: ref("rs-0")}},
		)
		client.Resources = []*metav1.APIResourceList{
			{GroupVersion: "v1", APIResources: []metav1.APIResource{{Name: "pods", Kind: "Pod", Namespaced: true, Verbs: []string{"get", "list", "watch", "delete"}}}},
			{GroupVersion: "apps/v1", APIResources: []metav1.APIResource{{Name: "replicasets", Kind: "ReplicaSet", Namespaced: true, Verbs: []string{"get", "list", "watch", "delete"}}}},
		}
		scheme := metadatafake.NewTestScheme()
		if err := metav1.AddMetaToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		meta := metadatafake.NewSimpleMetadataClient(scheme, &metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"}, ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "rs", UID: "rs-1"},
		})
		var deleted []string
		meta.PrependReactor("delete", "pods", func(a ktesting.Action) (bool, runtime.Object, error) {
			name := a.(ktesting.DeleteAction).GetName()
			deleted = append(deleted, name)
			return true, nil, client.Tracker().Delete(a.GetResource(), a.GetNamespace(), name)
		})
		factory := informers.New(client, nil)
		factory.Core().V1().Pods().Informer() // asked for, and so found by its resource
		factory.Apps().V1().ReplicaSets().Informer()
		c, err := New(loop.Deps{
			Client: client, Metadata: meta, Discovery: client.Discovery().(*fakediscovery.FakeDiscovery), Informers: factory,
			Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
			Recorder: func(string) record.EventRecorder { return &record.FakeRecorder{} },
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Second)
		synctest.Wait()
		if fmt.Sprint(deleted) != "[of-an-older]" {
			t.Errorf("deleted %v", deleted)
		}
		if err := client.Tracker().Delete(appsv1.SchemeGroupVersion.WithResource("replicasets"), "a", "rs"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if fmt.Sprint(deleted) != "[of-an-older kept]" {
			t.Errorf("deleted %v", deleted)
		}
		cancel()
		factory.Shutdown()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
