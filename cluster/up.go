package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
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

// UpOptions say how to start a cluster in the background.
type UpOptions struct {
	Nodes      int           // on this machine, the server's own counted; 0: as many as before, or 1
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
	if cfg.HTTPSPort == 0 {
		cfg.HTTPSPort = place.APIPort()
	}
	result := UpResult{Kubeconfig: place.Kubeconfig()}
	if runningPid(place, serverProcess) != 0 {
		result.Already = true
		result.Server, err = serverOf(place.Kubeconfig())
		return result, err
	}
	if err := portFree(cfg.BindAddress, cfg.HTTPSPort); err != nil {
		return result, err
	}
	if o.Nodes == 0 {
		o.Nodes = max(1, place.Nodes)
	}
	if o.Nodes != place.Nodes {
		place.Nodes = o.Nodes
		if err := place.save(); err != nil {
			return result, err
		}
	}
	args := append([]string{"server", "--progress-file=" + place.Progress(serverProcess)}, o.ServerArgs...)
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
	cmd, err := startDetached(place, serverProcess, (*exec.Cmd).Start, args...)
	if err != nil {
		return result, fmt.Errorf("start the server: %w", err)
	}
	if err := follow(ctx, place, serverProcess, cmd, report); err != nil {
		return result, err
	}
	if result.Server, err = serverOf(place.Kubeconfig()); err != nil {
		return result, err
	}
	if local != nil {
		if err := startLocalNodes(ctx, place, local, cfg, begun, report); err != nil {
			return result, err
		}
	}
	result.After = time.Since(begun)
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

// startLocalNodes starts an agent in each network namespace and waits for all.
func startLocalNodes(ctx context.Context, p *Place, local *nodes.Network, cfg ServerConfig, begun time.Time, report func(Step)) error {
	token, err := CreateToken(ctx, p, joinTTL)
	if err != nil {
		return err
	}
	first := cfg.NodeConfig.Name
	if first == "" {
		if first, err = os.Hostname(); err != nil {
			return err
		}
	}
	server := "https://" + net.JoinHostPort(local.HostAddress().String(), strconv.Itoa(cfg.HTTPSPort))
	group, ctx := errgroup.WithContext(ctx)
	for i, n := range local.Nodes {
		name := fmt.Sprintf("%s-%d", first, i+2)
		if runningPid(p, name) != 0 {
			continue // it outlived the server
		}
		start := func(cmd *exec.Cmd) error {
			cmd.Env = append(os.Environ(), "PROA_TOKEN="+token) // not among the arguments, which all users see
			return n.Start(cmd)
		}
		cmd, err := startDetached(p, name, start, "agent", "--network-namespace="+n.Path, "--name="+p.Name,
			"--data-root="+p.Roots.Data, "--run-root="+p.Roots.Run, "--config-root="+p.Roots.Config,
			"--server="+server, "--node-name="+name, "--node-ip="+n.Address.String(), "--kubelet-port=10250",
			"--progress-file="+p.Progress(name))
		if err != nil {
			return fmt.Errorf("start node %s: %w", name, err)
		}
		group.Go(func() error {
			return follow(ctx, p, name, cmd, func(s Step) {
				if s.Ready {
					report(Step{After: time.Since(begun), Text: "node " + name + ": " + s.Text})
				}
			})
		})
	}
	return group.Wait()
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
