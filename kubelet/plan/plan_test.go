package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var now = time.Unix(1000000, 0)

func pod(policy corev1.RestartPolicy, inits, apps string) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy}}
	always := corev1.ContainerRestartPolicyAlways
	for _, n := range strings.Fields(inits) {
		c := corev1.Container{Name: strings.TrimSuffix(n, "+"), Image: "i"}
		if strings.HasSuffix(n, "+") {
			c.RestartPolicy = &always
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for _, n := range strings.Fields(apps) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: n, Image: "i"})
	}
	return p
}

// seen reads "name=running name=exit0 ..." in a good sandbox; "lost" first makes it a dead one.
func seen(text string) *Observed {
	if text == "" {
		return &Observed{}
	}
	o := &Observed{Sandboxes: []Sandbox{{ID: "s", Ready: true, IPs: []string{"10.0.0.1"}}}}
	for _, f := range strings.Fields(text) {
		name, state, _ := strings.Cut(f, "=")
		c := Container{Name: name, ID: name, SandboxID: "s", State: Running, FinishedAt: now.Add(-time.Second)}
		switch {
		case name == "lost":
			o.Sandboxes[0].Ready = false
			continue
		case name == "up":
			continue
		case state == "created":
			c.State = Created
		case strings.HasPrefix(state, "exit"):
			c.State = Exited
			fmt.Sscanf(state, "exit%d", &c.ExitCode)
		}
		o.Containers = append(o.Containers, c)
	}
	return o
}

func text(p Plan) string {
	var out []string
	if p.StopSandbox {
		out = append(out, "stop-sandbox")
	}
	if p.CreateSandbox {
		out = append(out, fmt.Sprintf("sandbox#%d", p.Attempt))
	}
	for _, s := range p.Starts {
		out = append(out, fmt.Sprintf("start %s#%d", s.Container.Name, s.Attempt))
	}
	for _, k := range p.Kills {
		out = append(out, "kill "+k.Name)
	}
	for _, b := range p.BackingOff {
		out = append(out, "backoff "+b)
	}
	if p.Finished {
		out = append(out, "finished")
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	const always, never, onFailure = corev1.RestartPolicyAlways, corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure
	for _, c := range []struct {
		name        string
		policy      corev1.RestartPolicy
		inits, apps string
		seen, want  string
	}{
		{"new", always, "", "a b", "", "sandbox#0, start a#0, start b#0"},
		{"new with init", always, "i j", "a", "", "sandbox#0, start i#0"},
		{"init runs", always, "i j", "a", "i=running", ""},
		{"second init", always, "i j", "a", "i=exit0", "start j#0"},
		{"inits done", always, "i j", "a", "i=exit0 j=exit0", "start a#0"},
		{"first init forgotten", always, "i j", "a", "j=exit0", "start a#0"},
		{"init failed for good", never, "i", "a", "i=exit1", "finished"},
		{"init failed", onFailure, "i", "a", "i=exit1", "start i#1"},
		{"sidecar up", always, "s+ i", "a", "s=running", "start i#0"},
		{"sidecar crashed while running", always, "s+", "a", "s=exit1 a=running", "start s#1"},
		{"job with sidecar done", never, "s+", "a", "s=running a=exit0", "finished"},
		{"all run", always, "", "a b", "a=running b=running", ""},
		{"one crashed", always, "", "a b", "a=running b=exit1", "start b#1"},
		{"one done", onFailure, "", "a b", "a=running b=exit0", ""},
		{"never", never, "", "a b", "a=exit0 b=exit3", "finished"},
		{"never, one left", never, "", "a b", "a=exit0", "start b#0"},
		{"made but not started", always, "", "a", "a=created", "start a#1"},
		{"sandbox lost", always, "", "a", "lost a=exit137", "sandbox#1, start a#1"},
		{"sandbox lost, running", always, "", "a", "lost a=running", "stop-sandbox, sandbox#1, start a#1"},
		{"sandbox lost, init again", always, "i", "a", "lost i=exit0 a=exit137", "sandbox#1, start i#1"},
		{"sandbox lost, job done", onFailure, "", "a", "lost a=exit0", "finished"},
		{"sandbox lost, never", never, "", "a", "lost a=exit137", "finished"},
		{"empty sandbox", always, "", "a", "up", "start a#0"},
	} {
		got := text(Decide(Input{Pod: pod(c.policy, c.inits, c.apps), Observed: seen(c.seen), Now: now}))
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestBackoff crashes a container at once after each start and measures the waits.
func TestBackoff(t *testing.T) {
	p, backoffs := pod(corev1.RestartPolicyAlways, "", "a"), map[string]Backoff{}
	o, at := seen("a=exit1"), now
	var waits []string
	for range 8 {
		o.Containers[0].FinishedAt = at
		got := Decide(Input{Pod: p, Observed: o, Now: at, Backoffs: backoffs})
		if !got.Next.IsZero() {
			waits = append(waits, got.Next.Sub(at).String())
			at = got.Next
			got = Decide(Input{Pod: p, Observed: o, Now: at, Backoffs: backoffs})
		}
		backoffs["a"] = got.Starts[0].Backoff
	}
	if got, want := strings.Join(waits, " "), "10s 20s 40s 1m20s 2m40s 5m0s 5m0s"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
	o.Containers[0].FinishedAt = at.Add(BackoffReset + time.Second)
	if got := Decide(Input{Pod: p, Observed: o, Now: o.Containers[0].FinishedAt, Backoffs: backoffs}); text(got) != "start a#1" {
		t.Errorf("after a long run: %s", text(got))
	}
}

func TestCondemned(t *testing.T) {
	got := Decide(Input{Pod: pod(corev1.RestartPolicyAlways, "", "a b"), Observed: seen("a=running b=running"), Now: now, Dead: map[string]string{"a": "why"}})
	if text(got) != "kill a" || got.Kills[0].Message != "why" {
		t.Errorf("%s", text(got))
	}
}
