package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/memory"
	"github.com/proa-dev/proa/pki"
	"github.com/proa-dev/proa/store/source"
)

// RunServer runs a control plane and, if asked, a node, until ctx ends. It returns early
// with an error when it cannot start or a part that all depends on fails.
func RunServer(ctx context.Context, cfg ServerConfig, log *slog.Logger, steps *Progress) error {
	logLibraries(log)
	if err := countRestClients(); err != nil {
		return err
	}
	if err := cfg.completeSelf(); err != nil {
		return err
	}
	release, err := claimProcess(cfg.Place, cfg.Place.server())
	if err != nil {
		return err
	}
	defer release()
	if err := preflight(&cfg, log); err != nil {
		return err
	}
	if err := cfg.joinServers(ctx, log, steps); err != nil {
		return err
	}
	if err := cfg.complete(); err != nil {
		return err
	}
	kept, err := host.Open(cfg.Place.Journal())
	if err != nil {
		return err
	}
	defer kept.Close()
	journal := inNetns{kept, cfg.Netns}
	if err := enterCgroup(journal, cfg.cgroup()); err != nil {
		log.Warn("this process stays outside the cluster's cgroup", "err", err)
	}

	group := NewGroup(log)
	defer group.Stop()

	// The runtime takes the longest to start and needs nothing of the API: it goes first,
	// beside the control plane.
	var node *node
	if cfg.Node {
		if node, err = newNode(nodeSettings{
			place: cfg.Place, cfg: cfg.NodeConfig, journal: journal, log: log,
			services: cfg.ServiceCIDR, pods: cfg.ClusterCIDR, domain: cfg.Domain,
		}); err != nil {
			return err
		}
		if err := node.startRuntime(ctx, group); err != nil {
			return err
		}
	}
	if err := group.Start(ctx, Part{Name: "memory", Run: func(ctx context.Context) error { return memory.Run(ctx, log) }}); err != nil {
		return err
	}
	steps.Step("starting the control plane")
	plane, err := newControlPlane(ctx, &cfg, log)
	if err != nil {
		return err
	}
	defer func() {
		group.Stop() // what writes goes before what is written to
		if err := plane.store.Close(); err != nil {
			log.Error("close the store", "err", err)
		}
	}()
	listener, err := plane.listen()
	if err != nil {
		return err
	}
	if err := plane.start(ctx, group, listener); err != nil {
		return err
	}
	if err := journal.Record(host.Change{Kind: host.Path, Name: cfg.Place.Kubeconfig()}); err != nil {
		return err
	}
	if err := plane.startAdmin(ctx, group); err != nil {
		return err
	}
	if err := group.Start(ctx, Part{Name: "presence", Run: func(own context.Context) error { return plane.keepPresent(own, ctx) }}); err != nil {
		return err
	}
	steps.Step("the API answers at " + plane.address())
	if err := plane.startLeading(ctx, group); err != nil {
		return err
	}
	if node != nil {
		if err := plane.startNode(ctx, group, node, steps); err != nil {
			return err
		}
	}
	steps.Ready("ready")
	log.Info("ready", "api", plane.address(), "after", time.Since(steps.begun).Round(time.Millisecond))
	return group.Wait(ctx)
}

func (c *controlPlane) address() string {
	return "https://" + net.JoinHostPort(c.cfg.AdvertiseAddress.String(), strconv.Itoa(c.cfg.HTTPSPort))
}

// start serves the API and makes the objects that every cluster has.
func (c *controlPlane) start(ctx context.Context, group *Group, listener net.Listener) error {
	client, err := kubernetes.NewForConfig(c.local("system:apiserver", "system:masters"))
	if err != nil {
		return err
	}
	c.present = newPresent(client, c.cfg)
	parts := []Part{
		{Name: "store", Run: c.store.Run, Fatal: true},
		{Name: "encryption keys", Run: func(ctx context.Context) error { return c.keys.Run(ctx, c.store.Reseal) }},
		{Name: "custom resources", Run: c.custom.Run, Ready: c.custom.Ready()},
		{Name: "certificate apiserver", Run: c.serving.Run},
		{Name: "certificate kubelet-client", Run: c.toNodes.Run},
		{Name: "certificate front-proxy-client", Run: c.toBackends.Run},
		{Name: "certificate peer", Run: c.renewPeers},
		{Name: "revoked certificates", Run: c.followRevoked},
		{Name: "api", Run: func(ctx context.Context) error { return c.serve(ctx, listener) }, Fatal: true},
	}
	if c.audit != nil { // before the API, so that it ends after it
		parts = append([]Part{{Name: "audit", Run: c.audit.Run}}, parts...)
	}
	for _, p := range parts {
		if err := group.Start(ctx, p); err != nil {
			return err
		}
	}
	if err := c.bootstrap(ctx, client); err != nil {
		return err
	}
	if err := c.announce(ctx, client); err != nil {
		return err
	}
	if err := group.Start(ctx, Part{Name: "bootstrap", Run: func(ctx context.Context) error { return c.keepBootstrapped(ctx, client) }}); err != nil {
		return err
	}
	if err := c.startFiles(ctx, group); err != nil {
		return err
	}
	close(c.started)
	if err := group.Start(ctx, Part{Name: "aggregation", Run: c.aggregator.Run}); err != nil {
		return err
	}
	if err := group.Start(ctx, Part{Name: "priority and fairness", Run: func(ctx context.Context) error {
		return c.fairness.Follow(ctx, c.store, c.log.With("part", "fairness"))
	}}); err != nil {
		return err
	}
	// The default roles hold from the first moment; storing them can wait.
	return group.Start(ctx, Part{Name: "default roles", Run: func(ctx context.Context) error {
		if err := c.rbac.Reconcile(ctx, client); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}})
}

// startNode runs the node parts with the node's own identity, in this process.
func (c *controlPlane) startNode(ctx context.Context, group *Group, n *node, steps *Progress) error {
	identity := c.local("system:node:"+n.cfg.Name, "system:nodes")
	client, err := kubernetes.NewForConfig(identity)
	if err != nil {
		return err
	}
	serving, err := c.pki.RenewingFile(c.pki.CA, "kubelet-"+n.cfg.Name, pki.Leaf{
		CommonName: "system:node:" + n.cfg.Name, Organizations: []string{"system:nodes"}, Server: true,
		DNS: []string{n.cfg.Name}, IPs: []net.IP{toIP(n.cfg.IP)},
	}, c.log)
	if err != nil {
		return err
	}
	c.kubelet.Store(serving)
	if err := group.Start(ctx, Part{Name: "certificate kubelet", Run: serving.Run}); err != nil {
		return err
	}
	pods, err := source.PodsOfNode(c.store, n.cfg.Name)
	if err != nil {
		return err
	}
	return n.start(ctx, group, nodeClients{
		client: client, informers: source.NewFactory(c.store, client), pods: pods,
		serving: &tls.Config{GetCertificate: serving.GetCertificate, MinVersion: tls.VersionTLS12}, trust: c.pki.CA.Trust(),
	}, steps)
}

// cgroup is that of the server's process.
func (c *ServerConfig) cgroup() string {
	return c.Place.Cgroup() + "/" + c.Place.server()
}

// preflight says what about this machine stands in the way.
func preflight(cfg *ServerConfig, log *slog.Logger) error {
	for _, f := range host.Check(host.Needs{DataDir: cfg.Place.Dir(), Node: cfg.Node, Embedded: cfg.Node && cfg.NodeConfig.Runtime == ""}) {
		if f.Severity == host.Fatal {
			return fmt.Errorf("%s (%s)", f.Problem, f.Fix)
		}
		log.Warn(f.Problem, "mend", f.Fix)
	}
	return nil
}
