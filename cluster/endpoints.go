package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/internal/informers"
)

// Of an agent's connections to servers. What keeps a connection under watch is the kernel: it costs
// this process no wake-up, and a machine that is gone is noticed within deadAfter.
const (
	serverDial  = 2 * time.Second // for one server, before the next is tried
	probeAfter  = 2 * time.Second // of silence on a connection
	probeEvery  = time.Second
	probeCount  = 3
	deadAfter   = 5 * time.Second
	maxServers  = 32 // that are remembered
	serversName = "servers.json"
)

// apiName is in the certificate of every server: whichever an agent reaches must show it.
const apiName = "kubernetes.default.svc"

// endpoints are the servers that an agent knows: where it was told to go first, and those that
// default/kubernetes leads to, kept on disk for its next start. It stays with one that answers.
type endpoints struct {
	path  string
	log   *slog.Logger
	first string // host:port, from --server

	mu    sync.Mutex
	known []string // in the order in which they are tried; the first is the one in use
	open  map[net.Conn]struct{}
}

// newEndpoints begins with what a former start knew.
func newEndpoints(server, path string, log *slog.Logger) (*endpoints, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--server %s: must be https://HOST:PORT", server)
	}
	e := &endpoints{path: path, log: log, first: u.Host, open: map[net.Conn]struct{}{}}
	if u.Port() == "" {
		e.first = net.JoinHostPort(u.Hostname(), "443")
	}
	e.known = []string{e.first}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the servers known: %w", err)
	}
	var others []string
	if err := json.Unmarshal(raw, &others); err != nil || len(others) > maxServers {
		log.Warn("the list of servers is damaged; it will be written anew", "file", path)
		return e, nil
	}
	for _, s := range others {
		if s != e.first {
			e.known = append(e.known, s)
		}
	}
	return e, nil
}

// order is in which the servers are tried.
func (e *endpoints) order() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.known)
}

// dial connects to a server that answers, whatever address is asked for.
func (e *endpoints) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var errs []error
	for _, server := range e.order() {
		conn, err := dialServer(ctx, network, server)
		if err == nil {
			e.prefer(server)
			return e.track(conn), nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// prefer has a server tried first from now on.
func (e *endpoints) prefer(server string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.known, server); i > 0 {
		e.log.Info("another server is used", "server", server, "instead of", e.known[0])
		e.known = slices.Insert(slices.Delete(e.known, i, i+1), 0, server)
	}
}

func dialServer(ctx context.Context, network, server string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         serverDial,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeEvery, Count: probeCount},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			if cerr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
			}); cerr != nil {
				return cerr
			}
			return err
		},
	}
	return d.DialContext(ctx, network, server)
}

// tracked is a connection that leave may end.
type tracked struct {
	net.Conn
	of *endpoints
}

func (t *tracked) Close() error {
	t.of.mu.Lock()
	delete(t.of.open, t)
	t.of.mu.Unlock()
	return t.Conn.Close()
}

func (e *endpoints) track(conn net.Conn) net.Conn {
	t := &tracked{conn, e}
	e.mu.Lock()
	e.open[t] = struct{}{}
	e.mu.Unlock()
	return t
}

// leave ends all connections and goes to the next server: the present one answers, but cannot
// do its work. It is left alone while there is no other.
func (e *endpoints) leave() {
	e.mu.Lock()
	if len(e.known) < 2 {
		e.mu.Unlock()
		return
	}
	e.log.Warn("the server answers with errors; the next one is tried", "server", e.known[0], "next", e.known[1])
	e.known = append(e.known[1:], e.known[0])
	open := make([]net.Conn, 0, len(e.open))
	for c := range e.open {
		open = append(open, c)
	}
	e.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // it is given up
	}
}

// follow takes over where default/kubernetes leads to.
func (e *endpoints) follow(factory *informers.Factory) error {
	changed := func(obj any) {
		s, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok || s.Namespace != metav1.NamespaceDefault || s.Name != "kubernetes" {
			return
		}
		if err := e.set(serversOf(s)); err != nil {
			e.log.Warn("remember the servers", "err", err)
		}
	}
	_, err := factory.Discovery().V1().EndpointSlices().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: changed, UpdateFunc: func(_, obj any) { changed(obj) },
	})
	return err
}

// serversOf reads the addresses and ports of a slice.
func serversOf(s *discoveryv1.EndpointSlice) []string {
	var out []string
	for _, p := range s.Ports {
		if p.Port == nil {
			continue
		}
		for _, one := range s.Endpoints {
			for _, a := range one.Addresses {
				if _, err := netip.ParseAddr(a); err == nil && len(out) < maxServers {
					out = append(out, net.JoinHostPort(a, strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// set takes over which servers there are; the one given by --server stays among them. An empty list
// is not believed.
func (e *endpoints) set(servers []string) error {
	if len(servers) == 0 {
		return nil
	}
	e.mu.Lock()
	before := len(e.known)
	e.known = slices.DeleteFunc(e.known, func(s string) bool { return s != e.first && !slices.Contains(servers, s) })
	changed := len(e.known) != before
	for _, s := range servers {
		if !slices.Contains(e.known, s) {
			e.known, changed = append(e.known, s), true
		}
	}
	e.mu.Unlock()
	if !changed {
		return nil
	}
	raw, err := json.Marshal(servers)
	if err != nil {
		return err
	}
	return WriteFile(e.path, append(raw, '\n'), 0o600)
}
