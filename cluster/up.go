package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/network/nodes"
)

// MaxLocalNodes bounds the nodes of one cluster on one machine.
const MaxLocalNodes = 50

// joinTTL is how long the token of a local node is valid: it is used at once.
const joinTTL = 10 * time.Minute

// serverProcess is the name of the server among a cluster's processes; an agent's is its node's.
const serverProcess = "server"

// server is the name of this place's server among the processes: "server", or "server-2" of a
// further one on the same machine.
func (p *Place) server() string {
	if p.Number == 0 {
		return serverProcess
	}
	return serverProcess + "-" + strconv.Itoa(p.Number)
}

// isServer tells servers from agents.
func (p *Place) isServer(process string) bool {
	return process == p.server() || slices.ContainsFunc(p.furthers(), func(f *Place) bool { return f.server() == process })
}

// UpOptions say how to start a cluster in the background.
type UpOptions struct {
	Nodes      int           // on this machine, the server's own counted; 0: as many as before, or 1
	Servers    int           // of these nodes; 0: as many as before, or 1
	Timeout    time.Duration // to readiness
	ServerArgs []string      // flags handed on to the server process
}

// UpResult is a cluster that is ready.
type UpResult struct {
	Already    bool // it was up before
	Server     string
	Kubeconfig string
	After      time.Duration
}

// Up starts a cluster's processes in the background and waits until all its nodes are
// ready. report is told each step.
func Up(ctx context.Context, roots Roots, name string, cfg ServerConfig, o UpOptions, report func(Step)) (UpResult, error) {
	begun := time.Now()
	if os.Geteuid() != 0 {
		return UpResult{}, errors.New("a node needs root: run it with sudo")
	}
	place, err := ClaimPlace(roots, name, RangeInUse)
	if err != nil {
		return UpResult{}, err
	}
	cfg.Place = place
	if cfg.HTTPSPort == 0 && cfg.Join == "" {
		cfg.HTTPSPort = place.APIPort()
	}
	result := UpResult{Kubeconfig: place.Kubeconfig()}
	if runningPid(place, place.server()) != 0 {
		return upAgain(ctx, place, cfg, o, begun, report)
	}
	if cfg.Join == "" || cfg.HTTPSPort != 0 { // else the cluster says which port
		if err := portFree(cfg.BindAddress, cfg.HTTPSPort); err != nil {
			return result, err
		}
	}
	if err := o.count(place); err != nil {
		return result, err
	}
	args := append([]string{"server", "--progress-file=" + place.Progress(place.server())}, o.ServerArgs...)
	local, err := localNodes(place, o.Nodes, cfg.NodeConfig.IP)
	if err != nil {
		return result, err
	}
	if local != nil {
		cfg.NodeConfig.IP = local.HostAddress()
	}
	if cfg.NodeConfig.IP.IsValid() {
		args = append(args, "--node-ip="+cfg.NodeConfig.IP.String())
	}
	start := func(cmd *exec.Cmd) error {
		cmd.Env = tokenEnv(cfg.Token)
		return cmd.Start()
	}
	cmd, err := startDetached(place, place.server(), start, args...)
	if err != nil {
		return result, fmt.Errorf("start the server: %w", err)
	}
	// Servers that have data go on together: one alone could not.
	back := startFurther(place, local, o, cfg, "", func(f *Place) bool { return f.hasData() })
	if err := follow(ctx, place, place.server(), cmd, report); err != nil {
		return result, err
	}
	if result.Server, err = serverOf(place.Kubeconfig()); err != nil {
		return result, err
	}
	if local != nil {
		if err := startLocalNodes(ctx, place, local, cfg, o, back, begun, report); err != nil {
			return result, err
		}
	}
	result.After = time.Since(begun)
	return result, nil
}

// upAgain starts what is missing beside a server that runs: nodes and further servers that were
// killed.
func upAgain(ctx context.Context, place *Place, cfg ServerConfig, o UpOptions, begun time.Time, report func(Step)) (UpResult, error) {
	result := UpResult{Kubeconfig: place.Kubeconfig(), Already: true}
	var err error
	if result.Server, err = serverOf(place.Kubeconfig()); err != nil {
		return result, err
	}
	o.Nodes, o.Servers = max(1, place.Nodes), max(1, place.Servers)
	if len(runningProcesses(place)) >= o.Nodes {
		return result, nil
	}
	at, err := url.Parse(result.Server)
	if err != nil {
		return result, err
	}
	if cfg.HTTPSPort, err = strconv.Atoi(at.Port()); err != nil {
		return result, fmt.Errorf("read the server's address: %w", err)
	}
	local, err := localNodes(place, o.Nodes, netip.Addr{}) // it is there: nothing is made that is not noted already
	if err != nil {
		return result, err
	}
	cfg.NodeConfig.IP = local.HostAddress()
	back := startFurther(place, local, o, cfg, "", func(f *Place) bool { return f.hasData() })
	if err := startLocalNodes(ctx, place, local, cfg, o, back, begun, report); err != nil {
		return result, err
	}
	result.Already, result.After = false, time.Since(begun)
	return result, nil
}

// localNodes makes the network of further nodes; nil when there are none.
func localNodes(p *Place, count int, ip netip.Addr) (*nodes.Network, error) {
	if count < 2 {
		return nil, nil
	}
	if ip.IsValid() {
		return nil, errors.New("--node-ip does not go with --nodes: the nodes get addresses of a bridge of their own")
	}
	journal, err := host.Open(p.Journal())
	if err != nil {
		return nil, err
	}
	defer journal.Close()
	return nodes.Create(nodes.Config{
		Bridge: p.LinkName("nodes"), LinkPrefix: p.LinkName("n"), Subnet: p.NodeCIDR(),
		Count: count - 1, Dir: p.RunDir(), Table: p.Table() + "-nodes", Recorder: journal,
	})
}

// count fills in how many nodes and servers there are, and remembers it.
func (o *UpOptions) count(p *Place) error {
	if o.Servers == 0 {
		o.Servers = max(1, p.Servers)
	}
	if o.Nodes == 0 {
		o.Nodes = max(1, p.Nodes, o.Servers)
	}
	if o.Nodes < o.Servers {
		return fmt.Errorf("--nodes %d is less than --servers %d: each server is a node", o.Nodes, o.Servers)
	}
	if o.Nodes == p.Nodes && o.Servers == max(1, p.Servers) {
		return nil
	}
	p.Nodes, p.Servers = o.Nodes, o.Servers
	return p.save()
}

// tokenEnv is the environment of a process that joins: the token is not among the arguments,
// which all users see.
func tokenEnv(token string) []string {
	if token == "" {
		return os.Environ()
	}
	return append(os.Environ(), "PROA_TOKEN="+token)
}

// firstName is the name of the server's own node, from which the others' follow.
func firstName(cfg ServerConfig) (string, error) {
	if cfg.NodeConfig.Name != "" {
		return cfg.NodeConfig.Name, nil
	}
	name, err := os.Hostname()
	return strings.ToLower(name), err
}

// startLocalNodes starts a server or an agent in each network namespace, and waits for all.
func startLocalNodes(ctx context.Context, p *Place, local *nodes.Network, cfg ServerConfig, o UpOptions, back []startedServer, begun time.Time, report func(Step)) error {
	first, err := firstName(cfg)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	wait := func(name string, place *Place, process string, cmd *exec.Cmd) {
		group.Go(func() error {
			return follow(ctx, place, process, cmd, func(s Step) {
				if s.Ready {
					report(Step{After: time.Since(begun), Text: name + ": " + s.Text})
				}
			})
		})
	}
	if o.Servers > 1 {
		token, err := CreateToken(ctx, p, joinTTL, true)
		if err != nil {
			return err
		}
		back = append(back, startFurther(p, local, o, cfg, token, func(f *Place) bool { return !f.hasData() })...)
	}
	for _, s := range back {
		if s.err != nil {
			return fmt.Errorf("start server %s: %w", s.name, s.err)
		}
		wait("server "+s.name, s.place, s.place.server(), s.cmd)
	}
	token, err := CreateToken(ctx, p, joinTTL, false)
	if err != nil {
		return err
	}
	server := "https://" + net.JoinHostPort(local.HostAddress().String(), strconv.Itoa(cfg.HTTPSPort))
	for i, n := range local.Nodes {
		name := fmt.Sprintf("%s-%d", first, i+2)
		if i+2 <= o.Servers || runningPid(p, name) != 0 {
			continue // a server, or it outlived the server
		}
		start := func(cmd *exec.Cmd) error {
			cmd.Env = tokenEnv(token)
			return n.Start(cmd)
		}
		cmd, err := startDetached(p, name, start, "agent", "--network-namespace="+n.Path, "--name="+p.Name,
			"--data-root="+p.Roots.Data, "--run-root="+p.Roots.Run, "--config-root="+p.Roots.Config,
			"--server="+server, "--node-name="+name, "--node-ip="+n.Address.String(), "--kubelet-port=10250",
			"--progress-file="+p.Progress(name))
		if err != nil {
			return fmt.Errorf("start node %s: %w", name, err)
		}
		wait("node "+name, p, name, cmd)
	}
	return group.Wait()
}

// startedServer is a further server on this machine that starts.
type startedServer struct {
	name  string
	place *Place
	cmd   *exec.Cmd
	err   error
}

// firstOnly are flags of the first server that further ones on the same machine do not get.
var firstOnly = []string{"node-name", "bind-address", "advertise-address", "kubelet-port", "server", "audit-log-path", "reset-members", "tls-san"}

// startFurther starts those of the further servers that are meant and do not run.
func startFurther(p *Place, local *nodes.Network, o UpOptions, cfg ServerConfig, token string, meant func(*Place) bool) []startedServer {
	first, err := firstName(cfg)
	var all []startedServer
	for n := 2; n <= o.Servers && local != nil; n++ {
		s := startedServer{name: fmt.Sprintf("%s-%d", first, n), place: p.further(n), err: err}
		if !meant(s.place) || runningPid(s.place, s.place.server()) != 0 {
			continue
		}
		if s.err == nil {
			s.cmd, s.err = s.start(p, local, n, o, cfg, token)
		}
		all = append(all, s)
	}
	return all
}

func (s *startedServer) start(p *Place, local *nodes.Network, n int, o UpOptions, cfg ServerConfig, token string) (*exec.Cmd, error) {
	f, node := s.place, local.Nodes[n-2]
	if err := os.MkdirAll(f.Dir(), 0o711); err != nil {
		return nil, err
	}
	if err := f.save(); err != nil {
		return nil, err
	}
	args := []string{"server", "--progress-file=" + f.Progress(f.server())}
	for _, a := range o.ServerArgs {
		flag, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if !slices.Contains(firstOnly, flag) {
			args = append(args, a)
		}
	}
	args = append(args, "--network-namespace="+node.Path, "--name="+f.Name,
		"--data-root="+f.Roots.Data, "--run-root="+f.Roots.Run, "--config-root="+f.Roots.Config,
		"--server=https://"+net.JoinHostPort(local.HostAddress().String(), strconv.Itoa(cfg.HTTPSPort)),
		"--node-name="+s.name, "--node-ip="+node.Address.String(), "--kubelet-port=10250")
	return startDetached(f, f.server(), func(cmd *exec.Cmd) error {
		cmd.Env = tokenEnv(token)
		return node.Start(cmd)
	}, args...)
}

// portFree says in a user's words that a port is taken.
func portFree(address netip.Addr, port int) error {
	if !address.IsValid() {
		address = netip.IPv4Unspecified()
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(address, uint16(port))))
	if err != nil {
		return fmt.Errorf("port %d of the API is taken (%w); stop what listens there or give another --https-port", port, err)
	}
	return l.Close()
}
