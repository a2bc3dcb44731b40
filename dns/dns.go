// Package dns is the cluster's DNS, served on every node at the cluster DNS address
// itself: names of services and pods from informers, everything else from the resolvers
// that the machine has.
//
// The one idea: the answer to a question is a packet that stays right until the index
// changes, so most queries are one look-up of the query's bytes and one write.
//
// Called by cluster on each node, in the node's network namespace.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/internal/informers"
)

// Config is what a server needs.
type Config struct {
	Informers  *informers.Factory
	Domain     string       // default cluster.local
	Addresses  []netip.Addr // where it answers: the cluster address of kube-system/kube-dns
	Port       uint16       // default 53
	Link       string       // link to make that holds Addresses; empty: they are there already
	ResolvConf string       // whose name servers get other names; empty: none, such names do not exist
	TTL        uint32       // seconds; default 30
	Recorder   host.Recorder
	Log        *slog.Logger
}

// Server is the cluster DNS of one node.
type Server struct {
	cfg       Config
	responder *responder
	synced    []cache.InformerSynced
	ready     chan struct{}
	outside   chan struct{} // slots for queries that are being forwarded
}

const (
	maxOutside  = 1000
	maxStreams  = 256
	streamIdle  = 10 * time.Second
	receiveSize = 4 << 20
)

// New registers the informers; it changes nothing on the host.
func New(cfg Config) (*Server, error) {
	if cfg.Informers == nil || len(cfg.Addresses) == 0 {
		return nil, errors.New("dns: Informers and Addresses are required")
	}
	if cfg.Domain == "" {
		cfg.Domain = "cluster.local"
	}
	if cfg.TTL == 0 {
		cfg.TTL = 30
	}
	if cfg.Port == 0 {
		cfg.Port = 53
	}
	if cfg.Recorder == nil {
		cfg.Recorder = host.Discard
	}
	x := newIndex()
	s := &Server{cfg: cfg, ready: make(chan struct{}), outside: make(chan struct{}, maxOutside),
		responder: &responder{records: &records{index: x, zone: dns.CanonicalName(cfg.Domain), ttl: cfg.TTL, own: cfg.Addresses},
			forward: &forwarder{path: cfg.ResolvConf, own: cfg.Addresses, log: cfg.Log}}}
	core := cfg.Informers.Core().V1()
	return s, errors.Join(
		listen(s, core.Namespaces().Informer(), func(n *corev1.Namespace, gone bool) { x.setNamespace(n.Name, gone) }),
		listen(s, core.Services().Informer(), x.setService),
		listen(s, cfg.Informers.Discovery().V1().EndpointSlices().Informer(), x.setSlice))
}

func listen[T any](s *Server, informer cache.SharedIndexInformer, handle func(T, bool)) error {
	take := func(o any, gone bool) {
		if t, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = t.Obj
		}
		if obj, ok := o.(T); ok {
			handle(obj, gone)
		}
	}
	reg, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { take(o, false) },
		UpdateFunc: func(_, o any) { take(o, false) },
		DeleteFunc: func(o any) { take(o, true) },
	})
	if err != nil {
		return fmt.Errorf("watch for dns: %w", err)
	}
	s.synced = append(s.synced, reg.HasSynced)
	return nil
}

// Ready is closed when questions are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return nil
	}
	if s.cfg.Link != "" {
		if err := s.makeLink(); err != nil {
			return err
		}
	}
	var serving sync.WaitGroup
	var open []interface{ Close() error }
	defer serving.Wait()
	defer func() {
		for _, c := range open {
			_ = c.Close() // ends its readers
		}
	}()
	for _, a := range s.cfg.Addresses {
		addr := netip.AddrPortFrom(a, s.cfg.Port)
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return fmt.Errorf("serve DNS: %w", err)
		}
		open = append(open, udp)
		if err := udp.SetReadBuffer(receiveSize); err != nil {
			s.cfg.Log.Debug("DNS receive buffer", "error", err)
		}
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			return fmt.Errorf("serve DNS: %w", err)
		}
		open = append(open, tcp)
		for range runtime.GOMAXPROCS(0) {
			serving.Go(func() { s.serveUDP(ctx, udp, &serving) })
		}
		serving.Go(func() { s.serveTCP(ctx, tcp) })
	}
	close(s.ready)
	<-ctx.Done()
	return nil
}

// makeLink makes the dummy link with the addresses.
func (s *Server) makeLink() error {
	if err := s.cfg.Recorder.Record(host.Change{Kind: host.Link, Name: s.cfg.Link}); err != nil {
		return fmt.Errorf("record DNS link: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = s.cfg.Link
	// A bridge without ports holds addresses as a dummy link does, and every kernel that runs
	// pods has bridges.
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make DNS link: %w", err)
	}
	link, err := netlink.LinkByName(s.cfg.Link)
	if err != nil {
		return fmt.Errorf("find DNS link: %w", err)
	}
	for _, a := range s.cfg.Addresses {
		ip := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ip}); err != nil {
			return fmt.Errorf("give DNS link its address: %w", err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set DNS link up: %w", err)
	}
	return nil
}

func (s *Server) serveUDP(ctx context.Context, conn *net.UDPConn, serving *sync.WaitGroup) {
	b := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // of one client: an ICMP error came back
		}
		answer, outside := s.responder.respond(b[:n], true)
		if outside {
			s.forwardUDP(ctx, conn, from, append([]byte(nil), b[:n]...), serving)
			continue
		}
		s.reply(conn, from, answer)
	}
}

func (s *Server) reply(conn *net.UDPConn, to netip.AddrPort, answer []byte) {
	if answer == nil {
		return
	}
	if _, err := conn.WriteToUDPAddrPort(answer, to); err != nil && !errors.Is(err, net.ErrClosed) {
		s.cfg.Log.Debug("DNS answer not sent", "client", to, "error", err)
	}
}

// forwardUDP asks outside beside the reader; when too many wait already it refuses.
func (s *Server) forwardUDP(ctx context.Context, conn *net.UDPConn, from netip.AddrPort, query []byte, serving *sync.WaitGroup) {
	select {
	case s.outside <- struct{}{}:
	default:
		s.reply(conn, from, refusal(query, dns.RcodeServerFailure))
		return
	}
	serving.Go(func() {
		defer func() { <-s.outside }()
		s.reply(conn, from, s.responder.resolve(ctx, query, true))
	})
}

func (s *Server) serveTCP(ctx context.Context, l net.Listener) {
	var streams sync.WaitGroup
	defer streams.Wait()
	slots := make(chan struct{}, maxStreams)
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.cfg.Log.Error("DNS over TCP ended", "error", err)
			}
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close() // too many clients: this one asks again
			continue
		}
		streams.Go(func() {
			defer func() { <-slots }()
			s.stream(ctx, conn)
		})
	}
}

// stream answers the queries of one connection in turn.
func (s *Server) stream(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for {
		if err := conn.SetDeadline(time.Now().Add(streamIdle)); err != nil {
			return
		}
		query, err := readTCP(conn)
		if err != nil {
			return
		}
		answer, outside := s.responder.respond(query, false)
		if outside {
			answer = s.responder.resolve(ctx, query, false)
		}
		if answer == nil || writeTCP(conn, answer) != nil {
			return
		}
	}
}
