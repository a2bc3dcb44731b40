package scheduler

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestQueue(t *testing.T) {
	now := time.Unix(1000, 0)
	q := newQueue(func() time.Time { return now })
	next := func(want string) *queued {
		t.Helper()
		e, _ := q.next()
		if got := ""; e != nil {
			if got = e.pod.Name; got != want {
				t.Fatalf("next is %q, not %q", got, want)
			}
		} else if want != "" {
			t.Fatalf("nothing is next, not %q", want)
		}
		return e
	}
	q.set(pod("old"))
	now = now.Add(time.Millisecond)
	q.set(pod("new"))
	q.set(pod("urgent", priority(5)))
	urgent, old, young := next("urgent"), next("old"), next("new")

	room := failure{wakes: podLeft}
	q.failed(urgent, room)
	q.failed(old, room)
	next("")
	q.happened(nodeChanged, always) // not what they wait for
	next("")
	q.happened(podLeft, func(failure) bool { return false }) // not on a node that would do
	next("")
	q.happened(podLeft, always) // the backoff has not passed, but nobody else waits
	urgent, old = next("urgent"), next("old")

	q.failed(young, room) // the pod left while it was being decided on
	young = next("new")
	q.again(young) // writing failed: not before its time
	if e, wait := q.next(); e != nil || wait != 2*time.Second {
		t.Fatalf("got %v, to wait %v", e, wait)
	}
	now = now.Add(2 * time.Second)
	young = next("new")

	q.failed(young, room)
	changed := pod("new", func(p *corev1.Pod) { p.Generation = 2 })
	q.set(changed) // the pod itself changed
	if young = next("new"); young.pod != changed {
		t.Error("not the latest pod")
	}
	q.remove(urgent.pod.UID)
	q.failed(urgent, room) // gone
	q.remove(old.pod.UID)
	q.remove(young.pod.UID)
	if len(q.all)+len(q.inAir)+len(q.stuck)+q.active.Len()+q.backing.Len()+q.erred.Len() > 0 {
		t.Errorf("left over: %+v", q)
	}
}

// Pods that wait for room are not woken by what cannot give it to them.
func TestHints(t *testing.T) {
	s := newState(noLabels)
	s.setNode(node("n1"))
	s.setNode(node("n2", func(n *corev1.Node) { n.Spec.Unschedulable = true }))
	s.addPod(pod("a", cpu("2"), priority(10)), "n1")
	s.addPod(pod("b", cpu("2"), priority(10)), "n1")
	p := s.place(pod("p", cpu("3")), nil)
	f := failureOf(p, s.refusalsFor(p))
	if f.wakes&podLeft == 0 || f.wakes&podCame != 0 {
		t.Errorf("waits for %b", f.wakes)
	}
	s.removePod("a")
	if s.leavingHelps(f, "n1") {
		t.Error("woken though the room is too small")
	}
	s.removePod("b")
	if !s.leavingHelps(f, "n1") || s.leavingHelps(f, "n2") {
		t.Error("not woken when there is room, or woken for a node that is cordoned")
	}
	s.setNode(node("n2"))
	if !s.nodeHelps(f, "n2") {
		t.Error("not woken when a node is opened")
	}
}
