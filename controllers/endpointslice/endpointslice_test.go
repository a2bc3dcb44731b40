package endpointslice

import (
	"context"
	"log/slog"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

// A pod's readiness shows in one slice, by one update.
func TestReadiness(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	svc, p := service(), pod(1, 8080, false)
	client := fake.NewClientset(svc, p)
	factory := informers.New(client, nil)
	c, err := New(loop.Deps{
		Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{},
		Recorder: func(string) record.EventRecorder { return record.NewFakeRecorder(100) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.DiscoveryV1().EndpointSlices("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	factory.StartWithContext(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	}()
	if s := nextSlice(t, w); len(s.Endpoints) != 1 || *s.Endpoints[0].Conditions.Ready {
		t.Fatalf("first %+v", s)
	}
	start := time.Now()
	ready := pod(1, 8080, true)
	if _, err := client.CoreV1().Pods("default").UpdateStatus(ctx, ready, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s := nextSlice(t, w)
	t.Logf("pod to slice: %v", time.Since(start))
	if len(s.Endpoints) != 1 || !*s.Endpoints[0].Conditions.Ready {
		t.Fatalf("then %+v", s)
	}
	if err := client.CoreV1().Pods("default").Delete(ctx, p.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := nextSlice(t, w); len(s.Endpoints) != 0 {
		t.Fatalf("at last %+v", s)
	}
}

func nextSlice(t *testing.T, w watch.Interface) *discoveryv1.EndpointSlice {
	t.Helper()
	select {
	case e := <-w.ResultChan():
		s, ok := e.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			t.Fatalf("event %v %T", e.Type, e.Object)
		}
		return s
	case <-time.After(5 * time.Second):
		t.Fatal("no slice was written")
		return nil
	}
}
