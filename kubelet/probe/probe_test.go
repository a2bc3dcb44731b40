package probe

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

type script func() Result

func (s script) Test(context.Context, *Target, *corev1.Probe) (Result, string) { return s(), "text" }

func TestThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var answer atomic.Int32
		answer.Store(int32(Failure))
		var changes []time.Duration
		var events []string
		p := New(Config{Tester: script(func() Result { return Result(answer.Load()) }), Changed: func(types.UID) { changes = append(changes, time.Since(began)) },
			Event: func(_ *Target, reason, message string) { events = append(events, reason+": "+message) }})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = p.Run(ctx) }()
		probe := &corev1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 10, FailureThreshold: 3, SuccessThreshold: 1}
		p.Add(Target{Pod: &corev1.Pod{}, Container: &corev1.Container{LivenessProbe: probe, StartupProbe: probe}, ContainerID: "x", StartedAt: began})
		time.Sleep(7 * time.Second)
		if p.Verdict("x", Startup) != Undecided || p.Verdict("x", Liveness) != Success {
			t.Error("verdicts before any threshold")
		}
		answer.Store(int32(Success))
		time.Sleep(10 * time.Second) // startup passes at 15 s, liveness is asked at once
		answer.Store(int32(Failure))
		time.Sleep(60 * time.Second) // asked at 25, 35, 45
		synctest.Wait()
		if p.Verdict("x", Liveness) != Failure {
			t.Error("liveness should have failed")
		}
		if len(changes) != 2 || changes[0] != 15*time.Second || changes[1] != 45*time.Second {
			t.Errorf("changes at %v", changes)
		}
		if len(events) != 4 || events[0] != "Unhealthy: Startup probe failed: text" || events[3] != "Unhealthy: Liveness probe failed: text" {
			t.Errorf("events %q", events)
		}
		p.Remove("x")
		cancel()
		<-done
	})
}
