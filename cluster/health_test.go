package cluster

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A part that panics is ill until it runs again, and those of other names are not.
func TestHealthOfParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(slog.New(slog.DiscardHandler))
		c := &controlPlane{}
		check := c.parts(func(name string) bool { return strings.HasPrefix(name, controllerPart) })
		ask := func(want corev1.ConditionStatus, text string) {
			t.Helper()
			synctest.Wait()
			status, err := check(t.Context())
			if status != want || text == "" && err != nil || text != "" && (err == nil || err.Error() != text) {
				t.Errorf("got %s, %v; want %s, %q", status, err, want, text)
			}
		}
		ask(corev1.ConditionUnknown, errNotStarted.Error())
		c.running.Store(g)
		start := func(name string, run func(context.Context) error) {
			if err := g.Start(t.Context(), Part{Name: name, Run: run}); err != nil {
				t.Fatal(err)
			}
		}
		defer g.Stop()
		runs := 0
		start(schedulerPart, func(context.Context) error { return errors.New("never works") })
		ask(corev1.ConditionUnknown, errNotStarted.Error())
		start(controllerPart+"a", func(ctx context.Context) error { <-ctx.Done(); return nil })
		ask(corev1.ConditionTrue, "")
		start(controllerPart+"b", func(ctx context.Context) error {
			if runs++; runs == 1 {
				panic("a fault")
			}
			<-ctx.Done()
			return nil
		})
		ask(corev1.ConditionFalse, "controller b: panic: a fault")
		time.Sleep(200 * time.Millisecond)
		ask(corev1.ConditionTrue, "")
	})
}
