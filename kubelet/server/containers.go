package server

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/proa-dev/proa/kubelet/usage"
)

// account is a group with all that is told of it under the names of cAdvisor.
type account struct {
	labels string
	usage.Figures
	usage.Limits
	begun      time.Time
	interfaces []usage.Interface // of the group that stands for a network namespace
	fs         *stats.FsStats    // nil: not known
	device     string            // of fs
	disks      []string          // names of those in IO
}

// containerMetrics answers everything about the groups of containers, sandboxes, pods and
// the machine, read at this moment.
func (s *Server) containerMetrics(w http.ResponseWriter, r *http.Request) {
	var out metricsText
	failed := 0.0
	all, err := s.accounts(s.layers(r.Context()))
	if err != nil {
		s.log.Warn("measure for /metrics/cadvisor", "error", err)
		failed = 1
	}
	out.accounts(all)
	out.machine()
	out.family("container_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	out.sample("container_scrape_error", "", failed, time.Time{})
	s.writeText(w, &out)
}

// accountLabels are those of a group. The group of a pod has no name and no image, that of
// its sandbox no container.
func accountLabels(container, id, image, name, namespace, pod string) string {
	return labels("container", container, "id", id, "image", image, "name", name, "namespace", namespace, "pod", pod)
}

func (s *Server) accounts(layers map[string]*runtimeapi.FilesystemUsage) ([]account, error) {
	got, err := s.read(s.usage.All)
	if err != nil {
		return nil, err
	}
	root := account{labels: accountLabels("", "/", "", "", "", ""), Figures: got.node.Figures, begun: bootTime(), fs: filesystem("/", nil, nil), device: rootDevice()}
	if all, err := usage.Interfaces(os.Getpid()); err == nil {
		root.interfaces = real(all)
	}
	if f, ok := s.usage.All("/"); ok {
		root.IO = f.IO
	}
	out := []account{root}
	if f, ok := s.usage.All(s.cfg.CgroupRoot); ok && s.cfg.CgroupRoot != "" {
		out = append(out, account{labels: accountLabels("", s.cfg.CgroupRoot, "", "", "", ""), Figures: f, Limits: s.usage.Limits(s.cfg.CgroupRoot), begun: bootTime()})
	}
	for i := range got.pods {
		out = s.podAccounts(out, &got.pods[i], layers)
	}
	nameDisks(out)
	return out, nil
}

// nameDisks looks up each disk once.
func nameDisks(all []account) {
	type number struct{ major, minor uint64 }
	known := map[number]string{}
	for i := range all {
		a := &all[i]
		a.disks = make([]string, len(a.IO))
		for j, d := range a.IO {
			n := number{d.Major, d.Minor}
			name, ok := known[n]
			if !ok {
				name = usage.Disk(n.major, n.minor)
				known[n] = name
			}
			a.disks[j] = name
		}
	}
}

// podLink are the host's ends of containers' links: of the built-in network and of most others.
var podLink = regexp.MustCompile(`^(veth|pr[0-9a-f]{12}$|cali|lxc)`)

// real leaves out the host's ends of containers' links.
func real(all []usage.Interface) []usage.Interface {
	return slices.DeleteFunc(all, func(l usage.Interface) bool { return podLink.MatchString(l.Name) })
}

func (s *Server) podAccounts(out []account, p *podReading, layers map[string]*runtimeapi.FilesystemUsage) []account {
	pod := p.pod
	begun := pod.CreationTimestamp.Time
	if pod.Status.StartTime != nil {
		begun = pod.Status.StartTime.Time
	}
	out = append(out, account{labels: accountLabels("", p.group, "", "", pod.Namespace, pod.Name), Figures: p.Figures, Limits: s.usage.Limits(p.group), begun: begun})
	if child := groupOf(s.usage.Children(p.group), p.sandbox); p.sandbox != "" && child != "" {
		group := filepath.Join(p.group, child)
		if f, ok := s.usage.All(group); ok {
			out = append(out, account{labels: accountLabels("", group, s.cfg.SandboxImage, p.sandbox, pod.Namespace, pod.Name), Figures: f,
				Limits: s.usage.Limits(group), begun: begun, interfaces: s.podInterfaces(p)})
		}
	}
	for i := range p.containers {
		c := &p.containers[i]
		a := account{labels: accountLabels(c.name, c.group, c.image, c.id, pod.Namespace, pod.Name), Figures: c.Figures, Limits: s.usage.Limits(c.group), begun: c.begun.Time}
		if layer := layers[c.id]; layer != nil {
			at := layer.GetFsId().GetMountpoint()
			a.fs, a.device = filesystem(at, value(layer.UsedBytes), value(layer.InodesUsed)), deviceOf(at)
		}
		out = append(out, a)
	}
	return out
}

// deviceOf is the disk that a folder is on.
func deviceOf(dir string) string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return ""
	}
	return usage.Disk(uint64(unix.Major(st.Dev)), uint64(unix.Minor(st.Dev)))
}

// rootDevice is what is mounted at /, by the name of its disk if it has one.
func rootDevice() string {
	if d := deviceOf("/"); d != "" {
		return d
	}
	for line := range strings.Lines(readText("/proc/self/mounts")) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "/" {
			return f[0]
		}
	}
	return "/"
}
