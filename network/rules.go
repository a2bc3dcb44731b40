package network

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/proa-dev/proa/internal/nft"
)

// rules is the agent's nftables table: masquerading of what leaves the cluster, and host
// ports as elements of maps.
type rules struct {
	table   *nftables.Table
	any     *nftables.Set // protocol . port -> pod
	one     *nftables.Set // address . protocol . port -> pod
	hairpin *nftables.Set

	mu   sync.Mutex
	open map[netip.Addr]*portElements
}

type portElements struct{ any, one, hairpin []nftables.SetElement }

func newRules(name string) *rules {
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: name}
	target := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	set := func(name string, data *nftables.SetDatatype, key ...nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: t, Name: name, Concatenation: true, KeyType: nftables.MustConcatSetType(key...)}
		if data != nil {
			s.IsMap, s.DataType = true, *data
		}
		return s
	}
	return &rules{table: t, open: map[netip.Addr]*portElements{},
		any:     set("host-ports", &target, nftables.TypeInetProto, nftables.TypeInetService),
		one:     set("host-address-ports", &target, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
		hairpin: set("hairpin", nil, nftables.TypeIPAddr, nftables.TypeIPAddr)}
}

// replace writes the whole table in one transaction.
func (r *rules) replace(bridge string, pods, cluster netip.Prefix, ports map[netip.Addr][]hostPort) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	conn.AddTable(r.table)
	conn.DelTable(r.table)
	conn.AddTable(r.table)
	for _, s := range []*nftables.Set{r.any, r.one, r.hairpin} {
		s.ID = 0
		if err := conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("make set %s: %w", s.Name, err)
		}
	}
	chain := func(name string, hook *nftables.ChainHook, priority int32, rules ...[]expr.Any) {
		c := conn.AddChain(&nftables.Chain{Table: r.table, Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook,
			Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority))})
		for _, e := range rules {
			conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: e})
		}
	}
	toPort := [][]expr.Any{
		nft.TranslateTo(r.one, nft.DestAddr, nft.Proto, nft.DestPort),
		nft.Rule(nft.ToThisHost(), nft.TranslateTo(r.any, nft.Proto, nft.DestPort)),
	}
	chain("prerouting", nftables.ChainHookPrerouting, -105, toPort...)
	chain("output", nftables.ChainHookOutput, -105, toPort...)
	chain("postrouting", nftables.ChainHookPostrouting, 105,
		nft.Rule(nft.Within(nft.SourceAddr, pods), nft.Outside(nft.DestAddr, cluster), nft.NotLeaving(bridge), nft.Masquerade()),
		nft.Rule(nft.Translated(), nft.In(r.hairpin, nft.SourceAddr, nft.DestAddr), nft.Masquerade()))
	clear(r.open)
	for ip, list := range ports {
		if err := r.addPorts(conn, ip, list); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write network rules: %w", err)
	}
	return nil
}

// openPorts makes host ports lead to a pod.
func (r *rules) openPorts(ip netip.Addr, ports []hostPort) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	if err := r.addPorts(conn, ip, ports); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		delete(r.open, ip)
		return fmt.Errorf("open host ports: %w", err)
	}
	return nil
}

func (r *rules) addPorts(conn *nftables.Conn, ip netip.Addr, ports []hostPort) error {
	e := &portElements{hairpin: []nftables.SetElement{{Key: nft.Key(ip.AsSlice(), ip.AsSlice())}}}
	for _, p := range ports {
		to := nft.Key(ip.AsSlice(), nft.Port(p.ContainerPort))
		proto := []byte{protocolNumber(p.Protocol)}
		if at, err := netip.ParseAddr(p.HostIP); err == nil && at.Is4() && !at.IsUnspecified() {
			e.one = append(e.one, nftables.SetElement{Key: nft.Key(at.AsSlice(), proto, nft.Port(p.HostPort)), Val: to})
		} else if err != nil && p.HostIP != "" {
			return fmt.Errorf("host IP %q of a host port: %w", p.HostIP, err)
		} else if p.HostIP == "" || at.IsUnspecified() {
			e.any = append(e.any, nftables.SetElement{Key: nft.Key(proto, nft.Port(p.HostPort)), Val: to})
		}
	}
	r.open[ip] = e
	for set, elements := range map[*nftables.Set][]nftables.SetElement{r.any: e.any, r.one: e.one, r.hairpin: e.hairpin} {
		if err := nft.Add(conn, set, elements); err != nil {
			return fmt.Errorf("open host ports: %w", err)
		}
	}
	return nil
}

// closePorts removes the host ports of a pod.
func (r *rules) closePorts(ip netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.open[ip]
	if e == nil {
		return nil
	}
	conn, err := nft.Open()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	for set, elements := range map[*nftables.Set][]nftables.SetElement{r.any: e.any, r.one: e.one, r.hairpin: e.hairpin} {
		if err := nft.Remove(conn, set, elements); err != nil {
			return fmt.Errorf("close host ports: %w", err)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("close host ports: %w", err)
	}
	delete(r.open, ip)
	return nil
}

func protocolNumber(name string) byte {
	switch name {
	case "udp", "UDP":
		return 17
	case "sctp", "SCTP":
		return 132
	default:
		return 6
	}
}
