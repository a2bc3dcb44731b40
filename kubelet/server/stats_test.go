package server

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/kubelet/usage"
)

// load is a machine whose containers use half a processor each.
type load struct {
	reads int
	fail  error
	begun map[string]time.Time
}

func (l *load) read() (*reading, error) {
	l.reads++
	if l.fail != nil {
		return nil, l.fail
	}
	now := time.Now()
	out := &reading{at: now, node: measured{Figures: usage.Figures{At: now, CPU: usage.CPU{Total: time.Duration(now.UnixNano())}}}}
	p := podReading{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}, measured: measured{group: "/p", Figures: usage.Figures{At: now}}}
	for id, begun := range l.begun {
		f := usage.Figures{At: now, CPU: usage.CPU{Total: now.Sub(begun) / 2}, Memory: usage.Memory{WorkingSet: 1 << 20}}
		p.containers = append(p.containers, containerReading{name: id, id: id, begun: metav1.NewTime(begun), measured: measured{group: "/p/" + id, Figures: f}})
	}
	out.pods = append(out.pods, p)
	return out, nil
}

func TestUseBetweenQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &load{begun: map[string]time.Time{"a": time.Now().Add(-time.Hour)}}
		s := newSampler(l.read)
		ask := func(waits time.Duration, reads int, windows map[string]time.Duration) {
			t.Helper()
			asked, before := time.Now(), l.reads
			got, err := s.use(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(asked); took != waits || l.reads-before != reads {
				t.Errorf("waited %s for %d readings, want %s and %d", took, l.reads-before, waits, reads)
			}
			if *got.node.nanocores != 1e9 {
				t.Errorf("the machine uses %d", *got.node.nanocores)
			}
			for _, c := range got.pods[0].containers {
				switch want := windows[c.id]; {
				case want == 0 && c.nanocores != nil:
					t.Errorf("%s has figures of %s", c.id, c.window)
				case want == 0:
				case c.nanocores == nil:
					t.Errorf("%s has no figures", c.id)
				case c.window != want || *c.nanocores != 5e8:
					t.Errorf("%s: %d in %s, want half a processor in %s", c.id, *c.nanocores, c.window, want)
				}
			}
		}
		ask(time.Second, 2, map[string]time.Duration{"a": time.Second}) // the first question of all
		ask(0, 0, map[string]time.Duration{"a": time.Second})           // the same answer again
		time.Sleep(15 * time.Second)
		ask(0, 1, map[string]time.Duration{"a": 15 * time.Second})
		time.Sleep(4 * time.Second)
		l.begun["b"] = time.Now()
		time.Sleep(2 * time.Second)
		l.begun["c"] = time.Now()
		ask(0, 1, map[string]time.Duration{"a": 6 * time.Second, "b": 2 * time.Second})
		time.Sleep(longest + time.Second) // too long ago
		ask(time.Second, 2, map[string]time.Duration{"a": time.Second, "b": time.Second, "c": time.Second})

		time.Sleep(time.Hour)
		before := l.reads
		var all sync.WaitGroup
		for range 20 { // who asks at the same time gets the same answer
			all.Go(func() {
				if _, err := s.use(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if l.reads-before != 2 {
			t.Errorf("20 at once made %d readings", l.reads-before)
		}
		time.Sleep(time.Hour)
		gone, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		if _, err := s.use(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("who went away: %v", err)
		}
		ask(700*time.Millisecond, 2, map[string]time.Duration{"a": time.Second, "b": time.Second, "c": time.Second})
		time.Sleep(2 * time.Second)
		l.fail = errors.New("no")
		if _, err := s.use(t.Context()); err == nil {
			t.Error("a reading that fails has an answer")
		}
	})
}

func TestReport(t *testing.T) {
	nanos := uint64(5)
	full := measured{Figures: usage.Figures{Memory: usage.Memory{WorkingSet: 7}}, nanocores: &nanos, window: time.Second}
	pod := func(name string, containers ...measured) podReading {
		p := podReading{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, UID: "u"}}}
		for _, c := range containers {
			p.containers = append(p.containers, containerReading{name: "c", measured: c})
		}
		return p
	}
	got := report(&reading{node: full, pods: []podReading{pod("whole", full, full), pod("half", full, measured{}), pod("none")}})
	if len(got.Pods) != 1 || got.Pods[0].Name != "whole" || len(got.Pods[0].Containers) != 2 || got.Node.CPU != 5 {
		t.Errorf("%+v", got)
	}
}

func TestTexts(t *testing.T) {
	at := time.UnixMilli(42)
	f := usage.Figures{At: at, CPU: usage.CPU{Total: 1500 * time.Millisecond, Periods: 3}, Memory: usage.Memory{WorkingSet: 3 << 30}}
	pod := podReading{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}, measured: measured{group: "/p", Figures: f}}
	pod.containers = []containerReading{{name: "c", id: "id", begun: metav1.NewTime(at), measured: measured{group: "/p/id", Figures: f}}}
	var out metricsText
	out.resources(&reading{node: measured{Figures: f}, pods: []podReading{pod}})
	for _, want := range []string{
		`container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 1.5 42` + "\n",
		`container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 3.221225472e+09 42` + "\n",
		`container_start_time_seconds{container="c",namespace="n",pod="p"} 0.042` + "\n",
		`pod_swap_usage_bytes{namespace="n",pod="p"} 0 42` + "\n",
		"node_cpu_usage_seconds_total 1.5 42\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	out = metricsText{}
	out.accounts([]account{
		{labels: accountLabels("c", "/p/id", "im\"age", "id", "n", "p"), Figures: f, Limits: usage.Limits{Quota: 5}},
		{labels: accountLabels("", "/p", "", "", "n", "p"), Figures: f, interfaces: []usage.Interface{{Name: "eth0", RxBytes: 9}}},
	})
	const l = `container="c",id="/p/id",image="im\"age",name="id",namespace="n",pod="p"`
	for _, want := range []string{
		"container_cpu_usage_seconds_total{" + l + `,cpu="total"} 1.5` + "\n", "container_cpu_cfs_periods_total{" + l + "} 3\n",
		`container_network_receive_bytes_total{container="",id="/p",image="",name="",namespace="n",pod="p",interface="eth0"} 9` + "\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Count(out.String(), "\ncontainer_cpu_cfs_periods_total") != 1 {
		t.Error("a group without a quota has periods")
	}
}
