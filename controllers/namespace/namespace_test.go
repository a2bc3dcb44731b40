package namespace

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

// Content that stays keeps the namespace and is named; without it the finalizer goes.
func TestNamespace(t *testing.T) {
	ctx := context.Background()
	now := metav1.Now()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "a", DeletionTimestamp: &now}}
	ns.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
	client := fake.NewClientset(ns)
	client.Resources = []*metav1.APIResourceList{{GroupVersion: "v1", APIResources: []metav1.APIResource{
		{Name: "pods", Kind: "Pod", Namespaced: true, Verbs: metav1.Verbs{"delete", "list"}},
		{Name: "configmaps", Kind: "ConfigMap", Namespaced: true, Verbs: metav1.Verbs{"delete", "deletecollection", "list"}},
	}}}
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	pod := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}}
	content := metadatafake.NewSimpleMetadataClient(scheme, pod)
	factory := informers.New(client, nil)
	c, err := New(loop.Deps{Client: client, Metadata: content, Discovery: preferred{client.Discovery(), client.Resources},
		Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := factory.Core().V1().Namespaces().Informer().GetStore().Add(ns); err != nil {
		t.Fatal(err)
	}
	if err := c.reconcile(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().Namespaces().Get(ctx, "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status.Phase != corev1.NamespaceTerminating || len(got.Status.Conditions) != 5 {
		t.Errorf("status %+v", got.Status)
	}
	finalized := slices.ContainsFunc(client.Actions(), func(a clienttesting.Action) bool { return a.GetSubresource() == "finalize" })
	if !finalized {
		t.Error("an emptied namespace keeps its finalizer")
	}
}

// While a pod is there nothing else goes.
func TestPodsGoFirst(t *testing.T) {
	ctx := context.Background()
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	object := func(kind string, finalizers ...string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: kind},
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x", Finalizers: finalizers},
		}
	}
	content := metadatafake.NewSimpleMetadataClient(scheme, object("Pod"), object("ConfigMap"))
	keeps := true
	content.PrependReactor("delete", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return keeps, nil, nil })
	lists := []*metav1.APIResourceList{{GroupVersion: "v1", APIResources: []metav1.APIResource{
		{Name: "configmaps", Kind: "ConfigMap", Namespaced: true, Verbs: metav1.Verbs{"delete", "list"}},
		{Name: "pods", Kind: "Pod", Namespaced: true, Verbs: metav1.Verbs{"delete", "list"}},
	}}}
	c := &Controller{deps: loop.Deps{Metadata: content, Discovery: preferred{nil, lists}}}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	if found := c.empty(ctx, ns); found.count["pods."] != 1 || found.count["configmaps."] != 0 || len(found.failed) > 0 {
		t.Errorf("with a pod: %+v", found)
	}
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	if _, err := content.Resource(maps).Namespace("a").Get(ctx, "x", metav1.GetOptions{}); err != nil {
		t.Errorf("the config map went before the pod: %v", err)
	}
	keeps = false
	if found := c.empty(ctx, ns); found.remains() || len(found.failed) > 0 {
		t.Errorf("after it: %+v", found)
	}
}

// preferred answers what a fake discovery does not.
type preferred struct {
	discovery.DiscoveryInterface
	lists []*metav1.APIResourceList
}

func (p preferred) ServerPreferredNamespacedResources() ([]*metav1.APIResourceList, error) {
	return p.lists, nil
}

func TestConditions(t *testing.T) {
	start := time.Unix(1000, 0)
	f := &findings{failed: []error{errors.New("no")}, count: map[string]int{"pods.": 2, "jobs.batch": 1}, finalizers: map[string]int{"x/y": 2}}
	have := conditions(nil, f, start)
	text := ""
	for _, c := range have {
		text += string(c.Type) + "=" + string(c.Status) + " " + c.Message + "\n"
	}
	for _, want := range []string{
		"NamespaceDeletionDiscoveryFailure=False All resources successfully discovered",
		"NamespaceContentRemaining=True Some resources are remaining: jobs.batch has 1 resource instances, pods. has 2 resource instances",
		"NamespaceFinalizersRemaining=True Some content in the namespace has finalizers remaining: x/y in 2 resource instances",
		"NamespaceDeletionContentFailure=True Failed to delete all resource types, 1 remaining: no",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	again := conditions(have, f, start.Add(time.Minute))
	if !slices.Equal(have, again) {
		t.Error("conditions that stay took another time")
	}
}
