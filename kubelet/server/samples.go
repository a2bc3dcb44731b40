package server

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/kubelet/usage"
)

// CPU use is an average over a time that begins with the reading of an earlier question. If
// that is too long ago, or there is none, the question takes shortest: it reads twice.
const (
	shortest = time.Second
	longest  = 30 * time.Second
)

// machine is the key of the node among groups.
const machine = ""

// measured is a group as it was read, with its use since it was read before.
type measured struct {
	group string
	usage.Figures
	nanocores *uint64 // nil: there is no earlier reading yet
	window    time.Duration
}

type podReading struct {
	pod *corev1.Pod
	measured
	sandbox    string // id; "" when there is none
	containers []containerReading
}

type containerReading struct {
	name, id, image string
	begun           metav1.Time
	measured
}

// reading is all of a node that was read at one time.
type reading struct {
	at   time.Time
	node measured
	pods []podReading // by namespace and name
}

// read reads the groups of all pods, briefly or everything.
func (s *Server) read(group func(string) (usage.Figures, bool)) (*reading, error) {
	node, err := machineFigures()
	if err != nil {
		return nil, err
	}
	out := &reading{at: node.At, node: measured{group: machine, Figures: node}}
	if s.cfg.Cgroup == nil {
		return out, nil
	}
	for _, pod := range s.cfg.Pods.Pods() {
		p := podReading{pod: pod}
		p.group = s.cfg.Cgroup(pod)
		var ok bool
		if p.Figures, ok = group(p.group); !ok {
			continue // it has not begun, or is over
		}
		p.sandbox, _ = s.cfg.Pods.SandboxID(pod.UID)
		s.readContainers(&p, group)
		out.pods = append(out.pods, p)
	}
	slices.SortFunc(out.pods, func(a, b podReading) int {
		return cmp.Or(strings.Compare(a.pod.Namespace, b.pod.Namespace), strings.Compare(a.pod.Name, b.pod.Name))
	})
	return out, nil
}

func (s *Server) readContainers(p *podReading, group func(string) (usage.Figures, bool)) {
	groups := s.usage.Children(p.group)
	for _, list := range [][]corev1.ContainerStatus{p.pod.Status.InitContainerStatuses, p.pod.Status.ContainerStatuses, p.pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			st := &list[i]
			_, id, found := strings.Cut(st.ContainerID, "://")
			if st.State.Running == nil || !found || id == "" {
				continue
			}
			c := containerReading{name: st.Name, id: id, image: st.Image, begun: st.State.Running.StartedAt}
			child := groupOf(groups, id)
			if child == "" {
				continue
			}
			c.group = path.Join(p.group, child)
			if c.Figures, found = group(c.group); found {
				p.containers = append(p.containers, c)
			}
		}
	}
	slices.SortFunc(p.containers, func(a, b containerReading) int { return strings.Compare(a.name, b.name) })
}

// groupOf finds a container's group, which runtimes name by its id, some with more around it.
func groupOf(groups []string, id string) string {
	for _, g := range groups {
		if strings.Contains(g, id) {
			return g
		}
	}
	return ""
}

// machineFigures are those of the whole machine, which the root groups do not all tell.
func machineFigures() (usage.Figures, error) {
	f := usage.Figures{At: time.Now()}
	var err error
	if f.CPU, err = usage.MachineCPU(); err != nil {
		return f, err
	}
	m, events := table(readText("/proc/meminfo")), table(readText("/proc/vmstat"))
	if m["MemTotal"] == 0 {
		return f, fmt.Errorf("read /proc/meminfo: it does not tell how much memory there is")
	}
	f.Memory = usage.Memory{
		Usage: m["MemTotal"] - m["MemFree"], WorkingSet: m["MemTotal"] - m["MemAvailable"], RSS: m["AnonPages"],
		Cache: m["Cached"], Mapped: m["Mapped"], Swap: m["SwapTotal"] - m["SwapFree"], Kernel: m["Slab"],
		ActiveFile: m["Active(file)"], InactiveFile: m["Inactive(file)"], Faults: events["pgfault"], MajorFaults: events["pgmajfault"],
	}
	return f, nil
}

// counter is one group's CPU time at one time.
type counter struct {
	at    time.Time
	total time.Duration
}

// sampler keeps the counters of the last question: no more, and nothing while nobody asks.
type sampler struct {
	turn chan struct{}            // held while it reads
	read func() (*reading, error) // briefly
	last map[string]counter
	at   time.Time               // of last
	made atomic.Pointer[reading] // the newest with use, for a moment
}

func newSampler(read func() (*reading, error)) *sampler {
	return &sampler{turn: make(chan struct{}, 1), read: read}
}

// use reads the node with the use of CPU. Those who ask at the same time get one answer.
func (m *sampler) use(ctx context.Context) (*reading, error) {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-m.turn }()
	if made := m.made.Load(); made != nil && time.Since(made.at) < shortest {
		return made, nil
	}
	now, err := m.read()
	if err != nil {
		return nil, err
	}
	since := now.at.Sub(m.at)
	if m.last == nil || since > longest {
		m.keep(now)
		since = 0
	}
	if since < shortest { // also after one who asked and went away
		wait := time.NewTimer(shortest - since)
		defer wait.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait.C:
		}
		if now, err = m.read(); err != nil {
			return nil, err
		}
	}
	now.compare(m.last)
	m.keep(now)
	m.made.Store(now)
	time.AfterFunc(shortest, func() { m.made.CompareAndSwap(now, nil) })
	return now, nil
}

func (m *sampler) keep(r *reading) {
	m.at, m.last = r.at, make(map[string]counter, len(m.last))
	r.each(func(x *measured, _ time.Time) { m.last[x.group] = counter{x.At, x.CPU.Total} })
}

// each calls do with everything that was measured, and with when it began.
func (r *reading) each(do func(x *measured, begun time.Time)) {
	do(&r.node, time.Time{})
	for i := range r.pods {
		p := &r.pods[i]
		do(&p.measured, time.Time{})
		for j := range p.containers {
			do(&p.containers[j].measured, p.containers[j].begun.Time)
		}
	}
}

// compare computes use from earlier counters. What began since then was used by nobody before.
func (r *reading) compare(earlier map[string]counter) {
	r.each(func(x *measured, begun time.Time) {
		was, known := earlier[x.group]
		if !known {
			if x.At.Sub(begun) > longest+shortest {
				return // it has run for long, but was not seen
			}
			was = counter{at: begun}
		}
		x.window = x.At.Sub(was.at)
		if x.window < shortest || x.CPU.Total < was.total {
			return
		}
		nanos := uint64(float64(x.CPU.Total-was.total) / x.window.Seconds())
		x.nanocores = &nanos
	})
}
