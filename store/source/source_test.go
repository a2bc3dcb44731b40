package source

import (
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

func TestInformersShareTheCache(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := s.Serve(t.Context(), api.Define(api.Resource[*corev1.Pod]{
		Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true,
		Fields:  map[string]func(*corev1.Pod) string{"spec.nodeName": func(p *corev1.Pod) string { return p.Spec.NodeName }},
		Indexes: []string{"spec.nodeName"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	f := NewFactory(s, fake.NewClientset())
	pods := f.Core().V1().Pods()
	generic := f.ForResource(schema.GroupVersionResource{Version: "v1", Resource: "pods"})
	mine, err := PodsOfNode(s, "n1")
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan *corev1.Pod, 10)
	if _, err := mine.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { events <- o.(*corev1.Pod) },
		DeleteFunc: func(o any) { events <- o.(*corev1.Pod) },
	}); err != nil {
		t.Fatal(err)
	}
	create := func(name, node string) *store.Item {
		i, err := c.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Spec: corev1.PodSpec{NodeName: node}})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	first := create("x", "n1")
	pods.Informer()
	f.StartWithContext(t.Context())
	go mine.Informer().RunWithContext(t.Context())
	if !cache.WaitForCacheSync(t.Context().Done(), pods.Informer().HasSynced, mine.Informer().HasSynced) {
		t.Fatal("not synced")
	}
	got, err := pods.Lister().Pods("a").Get("x")
	if err != nil || got != first.Object() {
		t.Fatalf("the informer holds another copy: %v", err)
	}
	if generic != pods.Informer() {
		t.Fatal("ForResource gives another informer")
	}
	create("y", "n2")
	if _, err := c.Delete(t.Context(), "a", "x", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case p := <-events:
			if p.Name != "x" {
				t.Fatalf("saw %s", p.Name)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no event")
		}
	}
}
