package podgc

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/informers"
)

func TestRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		start := time.Now()
		pod := func(name, node string, phase corev1.PodPhase, deleting bool) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, UID: types.UID(name), CreationTimestamp: metav1.Now()},
				Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
			if deleting {
				p.DeletionTimestamp = &metav1.Time{Time: start}
			}
			if err := client.Tracker().Add(p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for name, taints := range map[string][]corev1.Taint{"up": nil, "out": {{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}} {
			if err := client.Tracker().Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: taints}}); err != nil {
				t.Fatal(err)
			}
		}
		pod("ended1", "up", corev1.PodSucceeded, false)
		pod("ended2", "up", corev1.PodFailed, false)
		pod("running", "up", corev1.PodRunning, false)
		pod("going", "up", corev1.PodRunning, true)
		pod("orphan", "lost", corev1.PodRunning, false)
		pod("unscheduled", "", corev1.PodPending, false)
		pod("unscheduled-going", "", corev1.PodPending, true)
		pod("out", "out", corev1.PodRunning, false)
		pod("out-going", "out", corev1.PodRunning, true)
		ctx, cancel := context.WithCancel(t.Context())
		factory := informers.New(client, nil)
		c, err := New(loop.Deps{Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
		if err != nil {
			t.Fatal(err)
		}
		c.most = 1
		factory.StartWithContext(ctx)
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		there := func() string {
			synctest.Wait()
			list, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range list.Items {
				names = append(names, p.Name)
			}
			slices.Sort(names)
			return fmt.Sprint(names)
		}
		time.Sleep(time.Second)
		if got := there(); got != "[ended2 going orphan out running unscheduled]" {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(quarantine)
		if got := there(); got != "[ended2 going out running unscheduled]" {
			t.Errorf("after the quarantine: %s", got)
		}
		cancel()
		factory.Shutdown()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
