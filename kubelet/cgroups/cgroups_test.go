package cgroups

import (
	"context"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestEnsureRemove(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	g, err := New(Config{Root: "/proa-cgroups-test"})
	if err != nil {
		t.Skip(err)
	}
	path, err := g.Ensure("u1", corev1.PodQOSBurstable, Limits{Shares: 512, Quota: 50000, Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if path != "/proa-cgroups-test/kubepods/burstable/podu1" || len(g.Pods()) != 1 {
		t.Errorf("path %s, pods %v", path, g.Pods())
	}
	if err := g.Remove(context.Background(), "u1"); err != nil {
		t.Fatal(err)
	}
	for _, top := range g.tops() {
		for _, sub := range []string{"/kubepods/burstable", "/kubepods", ""} {
			if err := os.Remove(top + "/proa-cgroups-test" + sub); err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
		}
	}
	if len(g.Pods()) != 0 {
		t.Error("left behind")
	}
}
