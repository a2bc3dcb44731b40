// Package dns answers for the names of the cluster, on each node by itself.
//
// The one idea: the cluster's DNS address is an address of the node (a link of ours holds
// it), so a pod's question never leaves its node; answers come from records kept by
// informers. Other names are handed to the resolvers of the host.
//
// Used by cluster, once per node.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/proa-dev/proa/host"
)

// Config of a Server.
type Config struct {
	Informers informers.SharedInformerFactory
	Domain    string       // "cluster.local"
	Addresses []netip.Addr // that pods ask; held by Link
	Port      uint16       // default 53
	Link      string       // link to make that holds the addresses; empty: they exist already
	Resolv    string       // file with the resolvers for other names; default /etc/resolv.conf
	Recorder  host.Recorder
	Log       *slog.Logger
}

// Server is the DNS server of one node.
type Server struct {
	cfg      Config
	zone     *zone
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	synced   []cache.InformerSynced
	upstream *upstream
	ready    chan struct{}
}

// New registers the informers.
func New(cfg Config) (*Server, error) {
	if cfg.Informers == nil || cfg.Domain == "" || len(cfg.Addresses) == 0 || cfg.Recorder == nil || cfg.Log == nil {
		return nil, errors.New("dns: Informers, Domain, Addresses, Recorder and Log are required")
	}
	if cfg.Port == 0 {
		cfg.Port = 53
	}
	if cfg.Resolv == "" {
		cfg.Resolv = "/etc/resolv.conf"
	}
	services, slices := cfg.Informers.Core().V1().Services(), cfg.Informers.Discovery().V1().EndpointSlices()
	s := &Server{
		cfg: cfg, zone: &zone{domain: strings.ToLower(strings.Trim(cfg.Domain, ".")) + ".", records: newRecords()},
		services: services.Lister(), slices: slices.Lister(),
		upstream: newUpstream(cfg.Resolv, cfg.Addresses), ready: make(chan struct{}),
	}
	changed := func(obj any) {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		switch o := obj.(type) {
		case *corev1.Service:
			s.refresh(key{o.Namespace, o.Name})
		case *discoveryv1.EndpointSlice:
			s.refresh(key{o.Namespace, o.Labels[discoveryv1.LabelServiceName]})
		}
	}
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), slices.Informer()} {
		r, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: changed, UpdateFunc: func(old, obj any) { changed(obj) }, DeleteFunc: changed,
		})
		if err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		s.synced = append(s.synced, r.HasSynced)
	}
	return s, nil
}

// refresh computes the records of one service anew.
func (s *Server) refresh(k key) {
	svc, err := s.services.Services(k.namespace).Get(k.name)
	if err != nil {
		s.zone.records.set(k, nil)
		return
	}
	slices, err := s.slices.EndpointSlices(k.namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: k.name}))
	if err != nil {
		slices = nil // the cache has no errors to give
	}
	s.zone.records.set(k, build(svc, slices))
}

// Ready closes when the server answers.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return ctx.Err()
	}
	if err := s.hold(); err != nil {
		return err
	}
	var group sync.WaitGroup
	defer group.Wait()
	failed := make(chan error, 2*len(s.cfg.Addresses))
	var servers []*dns.Server
	defer func() {
		for _, srv := range servers {
			_ = srv.Shutdown() // it may not have started
		}
	}()
	for _, a := range s.cfg.Addresses {
		at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, s.cfg.Port))
		packets, err := net.ListenUDP("udp", at)
		if err != nil {
			return fmt.Errorf("listen for DNS: %w", err)
		}
		conns, err := net.Listen("tcp", at.String())
		if err != nil {
			packets.Close()
			return fmt.Errorf("listen for DNS: %w", err)
		}
		for _, srv := range []*dns.Server{
			{PacketConn: packets, Handler: s, UDPSize: 4096, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second},
			{Listener: conns, Handler: s, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxTCPQueries: 128},
		} {
			servers = append(servers, srv)
			group.Go(func() { failed <- srv.ActivateAndServe() })
		}
	}
	close(s.ready)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		s.ready = make(chan struct{}) // for the next run
		return err
	}
}

// hold puts the addresses on a link of ours.
func (s *Server) hold() error {
	if s.cfg.Link == "" {
		return nil
	}
	if err := s.cfg.Recorder.Record(host.Change{Kind: host.Link, Name: s.cfg.Link}); err != nil {
		return err
	}
	link, err := netlink.LinkByName(s.cfg.Link)
	if err != nil {
		// A bridge without ports: it holds addresses as a dummy link does, and every kernel that
		// runs pods has bridges.
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: s.cfg.Link}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("make link %s: %w", s.cfg.Link, err)
		}
		link = bridge
	}
	for _, a := range s.cfg.Addresses {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(a.AsSlice()), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("put %s on %s: %w", a, s.cfg.Link, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", s.cfg.Link, err)
	}
	return nil
}

// ServeDNS answers one question; messages with another number of questions are refused.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	switch {
	case r.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(r.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	case s.zone.answer(r.Question[0], m):
		s.follow(r, m)
	default:
		m = s.upstream.ask(w.RemoteAddr().Network(), r, m)
	}
	size := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		if m.IsEdns0() == nil {
			m.SetEdns0(4096, false)
		}
	}
	if w.RemoteAddr().Network() == "udp" {
		m.Truncate(size)
	}
	m.Compress = true
	_ = w.WriteMsg(m) // a client that went away
}

// follow adds what the name of an ExternalName service means, so that clients need not ask again.
func (s *Server) follow(r, m *dns.Msg) {
	q := r.Question[0]
	if len(m.Answer) != 1 || q.Qtype != dns.TypeA && q.Qtype != dns.TypeAAAA {
		return
	}
	alias, ok := m.Answer[0].(*dns.CNAME)
	if !ok {
		return
	}
	next := r.Copy()
	next.Question[0].Name = alias.Target
	reply := new(dns.Msg)
	reply.SetReply(next)
	if !s.zone.answer(next.Question[0], reply) {
		reply = s.upstream.ask("udp", next, reply)
	}
	if reply.Rcode == dns.RcodeSuccess {
		m.Answer = append(m.Answer, reply.Answer...)
	}
}
