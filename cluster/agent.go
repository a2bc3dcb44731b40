package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/clockstep"
	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/internal/memory"
	"github.com/proa-dev/proa/internal/turnover"
)

// RunAgent joins a server with a token, or with the certificate of a former join, and
// runs a node until ctx ends.
func RunAgent(ctx context.Context, cfg AgentConfig, log *slog.Logger, steps *Progress) error {
	logLibraries(log)
	if err := countRestClients(); err != nil {
		return err
	}
	if err := cfg.Node.complete(cfg.Place); err != nil {
		return err
	}
	release, err := claimProcess(cfg.Place, cfg.Node.Name)
	if err != nil {
		return err
	}
	defer release()
	for _, f := range host.Check(host.Needs{DataDir: cfg.Place.Dir(), Node: true, Embedded: cfg.Node.Runtime == ""}) {
		if f.Severity == host.Fatal {
			return fmt.Errorf("%s (%s)", f.Problem, f.Fix)
		}
		log.Warn(f.Problem, "mend", f.Fix)
	}
	journal, err := host.Open(cfg.Place.nodeJournal(cfg.Node.Name))
	if err != nil {
		return err
	}
	defer journal.Close()
	changes := inNetns{journal, cfg.Netns}
	if err := enterCgroup(changes, cfg.Place.Cgroup()+"/"+cfg.Node.Name+"/agent"); err != nil {
		log.Warn("this process stays outside the cluster's cgroup", "err", err)
	}
	group := NewGroup(log)
	defer group.Stop()
	creds, err := join(ctx, cfg, log)
	if err != nil {
		return err
	}
	steps.Step("joined " + cfg.Server)
	client, err := kubernetes.NewForConfig(creds.config(cfg.Server))
	if err != nil {
		return err
	}
	facts, err := clusterFacts(ctx, client)
	if err != nil {
		return err
	}
	n, err := newNode(nodeSettings{
		place: cfg.Place, cfg: cfg.Node, journal: changes, log: log,
		services: facts.services, pods: facts.pods, domain: facts.domain,
	})
	if err != nil {
		return err
	}
	if err := n.startRuntime(ctx, group); err != nil {
		return err
	}
	for _, p := range []Part{
		{Name: "memory", Run: func(ctx context.Context) error { return memory.Run(ctx, log) }},
		{Name: "client certificate", Run: creds.client.Run},
		{Name: "serving certificate", Run: creds.serving.Run},
		{Name: "clock", Run: func(ctx context.Context) error {
			return clockstep.Follow(ctx, func() { creds.client.Look(); creds.serving.Look() })
		}},
	} {
		if err := group.Start(ctx, p); err != nil {
			return err
		}
	}
	shared := informers.New(client, nil)
	if err := creds.servers.follow(shared); err != nil {
		return err
	}
	own := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", "", fields.OneTermEqualSelector("spec.nodeName", cfg.Node.Name))
	err = n.start(ctx, group, nodeClients{
		client: client, informers: shared, pods: informers.PodsIn(informers.Unshared(own, &corev1.Pod{})),
		serving: &tls.Config{GetCertificate: creds.serving.GetCertificate, MinVersion: tls.VersionTLS12}, trust: creds.trust,
		certificate: creds.client.GetClientCertificate,
	}, steps)
	if err != nil {
		return err
	}
	steps.Ready("ready")
	return group.Wait(ctx)
}

// inNetns notes of changes to the network which namespace they were made in, so that they
// are undone there.
type inNetns struct {
	host.Recorder
	path string
}

func (r inNetns) Record(c host.Change) error {
	switch c.Kind {
	case host.Link, host.Route, host.Rule, host.Table:
		c.Netns = r.path
	case host.Sysctl:
		if strings.HasPrefix(c.Name, "net.") {
			c.Netns = r.path
		}
	}
	return r.Recorder.Record(c)
}

// config is a client's configuration with the node's certificate, whatever it is at the
// time of each request.
//
// They go to whichever server answers, the one they went to before first. A request that fails
// with its connection is tried again by client-go, as always.
func (c *credentials) config(server string) *rest.Config {
	certificate := c.client.GetClientCertificate
	transport := turnover.New(certificate, func() *http.Transport {
		return utilnet.SetTransportDefaults(&http.Transport{
			DialContext:         c.servers.dial,
			TLSClientConfig:     &tls.Config{RootCAs: c.trust, GetClientCertificate: certificate, ServerName: apiName, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
		})
	})
	return &rest.Config{
		Host: server, Transport: &failover{RoundTripper: transport, leave: c.servers.leave, now: time.Now}, QPS: 200, Burst: 400, UserAgent: "proa-agent/" + ProaVersion,
		WarningHandlerWithContext: rest.NoWarnings{},
		ContentConfig: rest.ContentConfig{
			ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
		},
	}
}

// facts is what a node must know of the cluster beside its objects.
type facts struct {
	services, pods netip.Prefix
	domain         string
}

// factsName is the config map in kube-public that servers write and agents read.
const factsName = "proa-cluster"

func clusterFacts(ctx context.Context, client kubernetes.Interface) (facts, error) {
	m, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, factsName, metav1.GetOptions{})
	if err != nil {
		return facts{}, fmt.Errorf("ask the server about the cluster: %w", err)
	}
	f := facts{domain: m.Data["domain"]}
	if f.services, err = netip.ParsePrefix(m.Data["serviceCIDR"]); err == nil {
		f.pods, err = netip.ParsePrefix(m.Data["clusterCIDR"])
	}
	if err != nil || f.domain == "" {
		return facts{}, fmt.Errorf("config map %s/%s of the server is damaged: %v", m.Namespace, m.Name, err)
	}
	return f, nil
}
