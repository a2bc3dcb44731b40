package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/dns"
	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/internal/localpath"
	"github.com/proa-dev/proa/kubelet"
	kubeletcri "github.com/proa-dev/proa/kubelet/cri"
	kubeletimages "github.com/proa-dev/proa/kubelet/images"
	kubeletserver "github.com/proa-dev/proa/kubelet/server"
	"github.com/proa-dev/proa/kubelet/volumes"
	"github.com/proa-dev/proa/network"
	"github.com/proa-dev/proa/network/policy"
	"github.com/proa-dev/proa/proxy"
	"github.com/proa-dev/proa/runtime"
	"github.com/proa-dev/proa/runtime/helpers"
	"github.com/proa-dev/proa/runtime/images"
)

// nodeSettings is what a node is made of, before it has a client.
type nodeSettings struct {
	place          *Place
	cfg            NodeConfig
	journal        host.Recorder
	log            *slog.Logger
	services, pods netip.Prefix
	domain         string
}

// nodeClients is how a node meets the cluster.
type nodeClients struct {
	client    kubernetes.Interface
	informers *informers.Factory
	pods      informers.Pods // of this node only; run here
	serving   *tls.Config
	trust     *x509.CertPool // of the kubelet's clients
	// certificate is what the node shows to servers; nil: it is in one process with the server.
	certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
}

// node is the node part of a process.
type node struct {
	nodeSettings
	runtime *runtime.Runtime // nil with a runtime from outside
	conn    *grpc.ClientConn
}

func newNode(s nodeSettings) (*node, error) { return &node{nodeSettings: s}, nil }

func (n *node) dir(parts ...string) string {
	return filepath.Join(append([]string{n.place.NodeDir(n.cfg.Name)}, parts...)...)
}

func (n *node) runDir() string { return filepath.Join(n.place.RunDir(), n.cfg.Name) }

// helpers is where the CNI plugin lies: with the runtime's other helper programs.
func (n *node) helpers() string {
	if n.runtime != nil {
		return n.runtime.Helpers()
	}
	return filepath.Join(n.place.Dir(), "helpers")
}

func (n *node) cgroup() string { return n.place.Cgroup() + "/" + n.cfg.Name }

// startRuntime brings up the container runtime; it does not wait for it.
func (n *node) startRuntime(ctx context.Context, group *Group) error {
	if err := host.QuickMoves(n.journal); err != nil {
		n.log.Info("containers start some milliseconds later than they could", "err", err)
	}
	if n.cfg.Runtime != "" {
		conn, err := runtime.Dial(n.cfg.Runtime)
		n.conn = conn
		return err
	}
	var err error
	n.runtime, err = runtime.New(runtime.Config{
		Name: n.place.Name + "/" + n.cfg.Name, Root: n.dir("runtime"), State: n.runDir(),
		CgroupRoot: n.cgroup(), CNIConfDir: n.dir("cni"), HelpersDir: filepath.Join(n.place.Dir(), "helpers"),
		HostsDir: n.place.Registries(),
		Host:     n.journal, Log: n.log.With("part", "runtime"),
	})
	if err != nil {
		return err
	}
	n.conn = n.runtime.Conn()
	return group.Start(ctx, Part{Name: "runtime", Run: n.runtime.Run})
}

// start runs the node's parts and returns when the node is ready.
func (n *node) start(ctx context.Context, group *Group, c nodeClients, steps *Progress) error {
	sent := newEvents(context.WithoutCancel(ctx), c.client)
	dnsAddr := dnsAddress(n.services)
	guard, err := policy.New(policy.Config{
		Informers: c.informers, Pods: c.pods, Table: n.place.Table() + "-policy", Recorder: n.journal, Log: n.log.With("part", "policy"),
	})
	if err != nil {
		return err
	}
	pods, err := network.New(network.Config{
		Guard:   guard,
		Cluster: n.place.Name, NodeName: n.cfg.Name, Informers: c.informers,
		Bridge: n.place.LinkName("pods"), Table: n.place.Table(), Socket: filepath.Join(n.runDir(), "cni.sock"),
		CNIConfDir: n.dir("cni"), CNIBinDir: n.helpers(), Root: n.dir("network"),
		ClusterCIDR: n.pods, ServiceCIDR: n.services, Recorder: n.journal, Log: n.log.With("part", "network"),
	})
	if err != nil {
		return err
	}
	prox, err := proxy.New(proxy.Config{
		NodeName: n.cfg.Name, Informers: c.informers, Table: n.place.Table() + "-services", PodCIDR: n.pods,
		LocalAddresses: []netip.Addr{dnsAddr}, HealthPort: n.cfg.healthPort(), Recorder: n.journal, Log: n.log.With("part", "proxy"),
	})
	if err != nil {
		return err
	}
	names, err := dns.New(dns.Config{
		Informers: c.informers, Domain: n.domain, Addresses: []netip.Addr{dnsAddr}, Link: n.place.LinkName("dns"), ResolvConf: "/etc/resolv.conf",
		Recorder: n.journal, Log: n.log.With("part", "dns"),
	})
	if err != nil {
		return err
	}
	agent, parts, err := n.kubelet(c, sent, prox)
	if err != nil {
		return err
	}
	begin := append([]Part{
		{Name: "node informers", Run: func(ctx context.Context) error {
			c.informers.StartWithContext(ctx)
			<-ctx.Done()
			c.informers.Shutdown()
			sent.broadcaster.Shutdown()
			return nil
		}},
		{Name: "pods of this node", Run: func(ctx context.Context) error { c.pods.Informer().Run(ctx.Done()); return nil }},
		{Name: "network policies", Run: guard.Run},
		{Name: "network", Run: pods.Run},
		{Name: "proxy", Run: prox.Run},
		{Name: "dns", Run: names.Run},
	}, parts...)
	for _, p := range begin {
		if err := group.Start(ctx, p); err != nil {
			return err
		}
	}
	if err := n.runtimeReady(ctx, steps); err != nil {
		return err
	}
	// From here on pods can run; the node says so itself.
	return n.waitReady(ctx, agent, pods.Ready(), steps)
}

// runtimeReady waits for the runtime and gives it the sandbox image.
func (n *node) runtimeReady(ctx context.Context, steps *Progress) error {
	if n.runtime == nil {
		_, err := runtime.Answers(ctx, n.conn)
		return err
	}
	select {
	case <-n.runtime.Ready():
	case <-ctx.Done():
		return fmt.Errorf("start the container runtime: %w", context.Cause(ctx))
	}
	steps.Step("the container runtime answers")
	store, err := images.New(n.conn)
	if err != nil {
		return err
	}
	pause, err := helpers.Bytes("pause")
	if err != nil {
		return err
	}
	return store.EnsurePause(ctx, pause)
}

func (n *node) waitReady(ctx context.Context, agent *kubelet.Kubelet, network <-chan struct{}, steps *Progress) error {
	for _, wait := range []struct {
		what  string
		ready <-chan struct{}
	}{{"the node has its network", network}, {"the node is ready", agent.Ready()}} {
		select {
		case <-wait.ready:
			steps.Step(wait.what)
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", wait.what, context.Cause(ctx))
		}
	}
	return nil
}

// kubelet assembles the agent that runs the pods, with its API. figures are those of the node's
// other parts, told of beside its own.
func (n *node) kubelet(c nodeClients, sent *eventSender, figures prometheus.Collector) (*kubelet.Kubelet, []Part, error) {
	recorder := sent.recorder("kubelet", n.cfg.Name)
	log := n.log.With("part", "kubelet")
	calls := kubeletcri.Count(n.conn)
	cri, img := runtimeapi.NewRuntimeServiceClient(calls), runtimeapi.NewImageServiceClient(calls)
	var agent *kubelet.Kubelet
	vols, err := volumes.New(volumes.Config{
		Allocatable: func() corev1.ResourceList { return agent.Allocatable() }, // asked when the agent mounts
		Root:        n.dir("kubelet"), Local: n.dir("volumes"), Client: c.client, NodeName: n.cfg.Name, HostIPs: []string{n.cfg.IP.String()},
		Recorder: recorder, Host: n.journal, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	puller, err := kubeletimages.New(kubeletimages.Config{Images: img, Secret: vols.Objects().GetSecret, Recorder: recorder, Log: log})
	if err != nil {
		return nil, nil, err
	}
	labels, err := parseLabels(n.cfg.Labels)
	if err != nil {
		return nil, nil, err
	}
	taints, err := n.cfg.taints()
	if err != nil {
		return nil, nil, err
	}
	var exits kubelet.Exits
	if n.runtime != nil { // another runtime need not be containerd
		exits = func(ctx context.Context, tell func(string, int32, time.Time)) error {
			return runtime.Exits(ctx, n.conn, tell)
		}
	}
	agent, err = kubelet.New(kubelet.Config{
		Exits:  exits,
		Client: c.client, Pods: c.pods, Informers: c.informers, Runtime: cri, Images: img,
		NodeName: n.cfg.Name, NodeIPs: []string{n.cfg.IP.String()}, Root: n.dir("kubelet"), LogRoot: n.dir("pods-log"),
		CgroupRoot: n.cgroup(), ClusterDNS: []string{dnsAddress(n.services).String()}, ClusterDomain: n.domain,
		Taints: taints, ProviderID: n.cfg.ProviderID, Cloud: n.cfg.CloudProvider != "",
		MaxPods: int64(n.cfg.MaxPods), Labels: labels, Annotations: map[string]string{localpath.Folder: n.dir("volumes")}, Port: int32(n.cfg.KubeletPort), Version: Version().GitVersion,
		Volumes: vols, Puller: puller, Objects: vols.Objects(), Host: n.journal, Recorder: recorder, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	requests, err := restClientCounts()
	if err != nil {
		return nil, nil, err
	}
	more := append(requests.collectors(), calls, certificateTTLs(c), figures)
	api, err := kubeletserver.New(kubeletserver.Config{
		Addr: net.JoinHostPort(n.cfg.IP.String(), strconv.Itoa(n.cfg.KubeletPort)), TLS: c.serving, ClientCAs: c.trust,
		NodeName: n.cfg.Name, Client: c.client, Runtime: cri, Images: img, Pods: agent, RemoveLocal: vols.RemoveLocal,
		Metrics: agent.Metrics(more...), Probes: agent.Probes(), Cgroup: agent.Cgroup, CgroupRoot: n.cgroup() + "/kubepods", Volumes: agent.VolumePlaces, SandboxImage: runtime.DefaultSandboxImage,
		Configz: agent.Settings(), Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	return agent, []Part{
		{Name: "volumes", Run: vols.Run},
		{Name: "kubelet", Run: agent.Run},
		{Name: "kubelet API", Run: api.Run},
	}, nil
}

func parseLabels(list []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, l := range list {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--node-label %s: must be key=value", l)
		}
		labels[key] = value
	}
	return labels, nil
}
