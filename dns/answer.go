package dns

import (
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ttl of the cluster's own records, in seconds (what CoreDNS answers by default).
const ttl = 30

// zone answers for the cluster's domain and the reverse names of its addresses. Pure but
// for the records it reads.
type zone struct {
	domain  string // "cluster.local."
	records *records
}

// answer gives the answer to a question, false when the name is none of ours.
func (z *zone) answer(q dns.Question, m *dns.Msg) bool {
	name := strings.ToLower(q.Name)
	if strings.HasSuffix(name, ".in-addr.arpa.") || strings.HasSuffix(name, ".ip6.arpa.") {
		return z.reverse(q, name, m)
	}
	rest, ours := strings.CutSuffix(name, z.domain)
	if !ours || rest != "" && !strings.HasSuffix(rest, ".") {
		return false
	}
	m.Authoritative = true
	records, exists := z.lookup(q, name, strings.Split(strings.TrimSuffix(rest, "."), "."))
	m.Answer = append(m.Answer, records...)
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if len(records) == 0 {
		m.Ns = append(m.Ns, z.soa())
	}
	return true
}

// lookup reads the labels below the domain, from the right.
func (z *zone) lookup(q dns.Question, name string, labels []string) (found []dns.RR, exists bool) {
	if len(labels) == 1 && labels[0] == "" {
		if q.Qtype == dns.TypeSOA {
			found = append(found, z.soa())
		}
		return found, true
	}
	last := labels[len(labels)-1]
	labels = labels[:len(labels)-1]
	switch last {
	case "dns-version":
		if len(labels) == 0 && q.Qtype == dns.TypeTXT {
			found = append(found, &dns.TXT{Hdr: z.header(name, dns.TypeTXT), Txt: []string{"1.1.0"}})
		}
		return found, len(labels) == 0
	case "pod":
		return z.pod(q, name, labels)
	case "svc":
		return z.service(q, name, labels)
	}
	return nil, false
}

// pod answers a-b-c-d.<namespace>.pod: the name says the address.
func (z *zone) pod(q dns.Question, name string, labels []string) (found []dns.RR, exists bool) {
	if len(labels) < 2 {
		return nil, len(labels) == 0 || z.records.hasNamespace(labels[0])
	}
	if len(labels) > 2 || !z.records.hasNamespace(labels[1]) {
		return nil, false
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(labels[0], "-", "."))
	if err != nil {
		if a, err = netip.ParseAddr(strings.ReplaceAll(labels[0], "-", ":")); err != nil {
			return nil, false
		}
	}
	return z.addresses(q, name, a), true
}

// service answers <name>.<namespace>.svc and what is below it: <hostname>. of an endpoint,
// _<port>._<protocol>. for SRV.
func (z *zone) service(q dns.Question, name string, labels []string) (found []dns.RR, exists bool) {
	if len(labels) < 2 {
		return nil, len(labels) == 0 || z.records.hasNamespace(labels[0])
	}
	k := key{labels[len(labels)-1], labels[len(labels)-2]}
	below := labels[:len(labels)-2]
	s := z.records.find(k)
	if s == nil {
		return nil, false
	}
	if s.external != "" {
		if len(below) > 0 {
			return nil, false
		}
		return []dns.RR{&dns.CNAME{Hdr: z.header(name, dns.TypeCNAME), Target: s.external}}, true
	}
	switch {
	case len(below) == 0:
		if q.Qtype == dns.TypeSRV {
			return z.services(name, k, s, func(port) bool { return true }), true
		}
		return z.addresses(q, name, s.all()...), true
	case len(below) == 1 && s.headless:
		for _, e := range s.endpoints {
			if strings.EqualFold(e.hostname, below[0]) {
				found, exists = append(found, z.addresses(q, name, e.address)...), true
			}
		}
		return found, exists
	case len(below) == 2 && strings.HasPrefix(below[0], "_") && strings.HasPrefix(below[1], "_"):
		match := func(p port) bool { return p.name == below[0][1:] && p.protocol == below[1][1:] }
		records := z.services(name, k, s, match)
		if q.Qtype == dns.TypeSRV {
			return records, len(records) > 0
		}
		return nil, len(records) > 0
	}
	return nil, false
}

func (z *zone) addresses(q dns.Question, name string, all ...netip.Addr) (found []dns.RR) {
	for _, a := range all {
		switch {
		case a.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
			found = append(found, &dns.A{Hdr: z.header(name, dns.TypeA), A: net.IP(a.AsSlice())})
		case a.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
			found = append(found, &dns.AAAA{Hdr: z.header(name, dns.TypeAAAA), AAAA: net.IP(a.AsSlice())})
		}
	}
	return found
}

// services are the SRV records of a service's ports that match.
func (z *zone) services(name string, k key, s *service, match func(port) bool) (found []dns.RR) {
	base := k.name + "." + k.namespace + ".svc." + z.domain
	add := func(p port, target string) {
		found = append(found, &dns.SRV{Hdr: z.header(name, dns.TypeSRV), Weight: 100, Port: p.number, Target: target})
	}
	if !s.headless {
		for _, p := range s.ports {
			if match(p) {
				add(p, base)
			}
		}
		return found
	}
	for _, e := range s.endpoints {
		for _, p := range e.ports {
			if match(p) {
				add(p, e.hostname+"."+base)
			}
		}
	}
	return found
}

func (z *zone) reverse(q dns.Question, name string, m *dns.Msg) bool {
	a, ok := reverseAddress(name)
	if !ok {
		return false
	}
	target, ok := z.records.pointer(a)
	if !ok {
		return false
	}
	m.Authoritative = true
	if q.Qtype == dns.TypePTR {
		m.Answer = append(m.Answer, &dns.PTR{Hdr: z.header(name, dns.TypePTR), Ptr: target + "svc." + z.domain})
	}
	return true
}

// reverseAddress reads the address out of a reverse name.
func reverseAddress(name string) (netip.Addr, bool) {
	v4, is4 := strings.CutSuffix(name, ".in-addr.arpa.")
	v6, _ := strings.CutSuffix(name, ".ip6.arpa.")
	if is4 {
		l := strings.Split(v4, ".")
		if len(l) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(l[3] + "." + l[2] + "." + l[1] + "." + l[0])
		return a, err == nil
	}
	l := strings.Split(v6, ".")
	if len(l) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := 31; i >= 0; i-- {
		b.WriteString(l[i])
		if i%4 == 0 && i > 0 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}

func (z *zone) header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// soa tells resolvers for how long a name that is not there is so.
func (z *zone) soa() dns.RR {
	return &dns.SOA{
		Hdr: z.header(z.domain, dns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}
