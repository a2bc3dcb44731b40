package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// version is the schema that dns-version answers.
const version = "1.1.0"

// outcome is what the cluster knows about a question.
type outcome struct {
	answer, extra []dns.RR
	exists        bool // else NXDOMAIN
	outside       bool // not the cluster's to answer
}

// records answers questions from the index: the DNS specification of Kubernetes.
type records struct {
	index *index
	zone  string // "cluster.local."
	ttl   uint32
	own   []netip.Addr
}

// lookup answers one question; name is lower case and ends with a dot.
func (r *records) lookup(qname string, qtype uint16) outcome {
	r.index.mu.RLock()
	defer r.index.mu.RUnlock()
	if strings.HasSuffix(qname, ".in-addr.arpa.") || strings.HasSuffix(qname, ".ip6.arpa.") {
		return r.reverse(qname, qtype)
	}
	if qname == r.zone {
		return r.apex(qtype)
	}
	rest, ok := strings.CutSuffix(qname, "."+r.zone)
	if !ok {
		return outcome{outside: true}
	}
	labels := strings.Split(rest, ".")
	slices.Reverse(labels)
	switch labels[0] {
	case "svc":
		return r.services(qname, qtype, labels[1:])
	case "pod":
		return r.pods(qname, qtype, labels[1:])
	case "dns-version":
		return r.only(len(labels) == 1, qtype == dns.TypeTXT, &dns.TXT{Hdr: r.header(qname, dns.TypeTXT), Txt: []string{version}})
	case "dns": // the name server of the zone
		return outcome{exists: len(labels) == 1 || rest == "ns.dns", answer: r.addresses(qname, qtype, r.ownAddrs(rest))}
	}
	return outcome{}
}

func (r *records) ownAddrs(rest string) []netip.Addr {
	if rest == "ns.dns" {
		return r.own
	}
	return nil
}

func (r *records) only(exists, asked bool, rr dns.RR) outcome {
	if !exists || !asked {
		return outcome{exists: exists}
	}
	return outcome{exists: true, answer: []dns.RR{rr}}
}

func (r *records) header(owner string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: r.ttl}
}

func (r *records) apex(qtype uint16) outcome {
	switch qtype {
	case dns.TypeSOA:
		return outcome{exists: true, answer: []dns.RR{r.soa()}}
	case dns.TypeNS:
		ns := "ns.dns." + r.zone
		return outcome{exists: true, answer: []dns.RR{&dns.NS{Hdr: r.header(r.zone, dns.TypeNS), Ns: ns}}, extra: r.addresses(ns, dns.TypeA, r.own)}
	}
	return outcome{exists: true}
}

func (r *records) soa() dns.RR {
	return &dns.SOA{Hdr: r.header(r.zone, dns.TypeSOA), Ns: "ns.dns." + r.zone, Mbox: "hostmaster." + r.zone,
		Serial: uint32(r.index.generation), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: r.ttl}
}

// addresses makes A or AAAA records, whichever is asked for.
func (r *records) addresses(owner string, qtype uint16, ips []netip.Addr) []dns.RR {
	var out []dns.RR
	for _, ip := range ips {
		switch {
		case qtype == dns.TypeA && ip.Is4():
			out = append(out, &dns.A{Hdr: r.header(owner, qtype), A: ip.AsSlice()})
		case qtype == dns.TypeAAAA && ip.Is6():
			out = append(out, &dns.AAAA{Hdr: r.header(owner, qtype), AAAA: ip.AsSlice()})
		}
	}
	return out
}

// pods answers a-b-c-d.namespace.pod.
func (r *records) pods(qname string, qtype uint16, labels []string) outcome {
	if len(labels) == 0 {
		return outcome{exists: true}
	}
	if _, ok := r.index.namespaces[labels[0]]; !ok || len(labels) > 2 {
		return outcome{}
	}
	if len(labels) == 1 {
		return outcome{exists: true}
	}
	ip, ok := dashed(labels[1])
	return outcome{exists: ok, answer: r.addresses(qname, qtype, []netip.Addr{ip})}
}

// dashed parses 10-244-0-3 or fd00--3.
func dashed(label string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ".")); err == nil && ip.Is4() {
		return ip, true
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	return ip, err == nil
}

// services answers everything below svc: [namespace, service, endpoint or _proto, _port].
func (r *records) services(qname string, qtype uint16, labels []string) outcome {
	if len(labels) == 0 {
		return outcome{exists: true}
	}
	if _, ok := r.index.namespaces[labels[0]]; !ok {
		return outcome{}
	}
	if len(labels) == 1 {
		return outcome{exists: true}
	}
	n := name{labels[0], labels[1]}
	svc := r.index.services[n]
	if svc == nil || len(labels) > 4 {
		return outcome{}
	}
	base := n.service + "." + n.namespace + ".svc." + r.zone
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		if len(labels) > 2 {
			return outcome{}
		}
		target := dns.Fqdn(strings.ToLower(svc.Spec.ExternalName))
		return outcome{exists: true, answer: []dns.RR{&dns.CNAME{Hdr: r.header(qname, dns.TypeCNAME), Target: target}}}
	case len(labels) == 4:
		return r.ports(qname, qtype, base, svc, labels[3], labels[2])
	case len(labels) == 3:
		return r.endpoint(qname, qtype, svc, labels[2])
	case qtype == dns.TypeSRV:
		return r.ports(qname, qtype, base, svc, "", "")
	case !headless(svc):
		return outcome{exists: true, answer: r.addresses(qname, qtype, addrs(svc.Spec.ClusterIPs, svc.Spec.ClusterIP))}
	}
	targets := r.targets(n)
	out := outcome{exists: len(targets) > 0}
	for _, t := range targets {
		out.answer = append(out.answer, r.addresses(qname, qtype, []netip.Addr{t.ip})...)
	}
	out.answer = distinct(out.answer)
	return out
}

func headless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

// target is one ready endpoint of a service.
type target struct {
	ip    netip.Addr
	label string // its hostname, or its address with dashes
	ports []discoveryv1.EndpointPort
}

func (r *records) targets(n name) []target {
	var out []target
	for _, s := range r.index.slices[n] {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, ip := range addrs(e.Addresses, "") {
				out = append(out, target{ip, labelOf(e, ip), s.Ports})
			}
		}
	}
	return out
}

func labelOf(e *discoveryv1.Endpoint, ip netip.Addr) string {
	if e.Hostname != nil && *e.Hostname != "" {
		return *e.Hostname
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
}

// endpoint answers hostname.service.namespace.svc.
func (r *records) endpoint(qname string, qtype uint16, svc *corev1.Service, label string) outcome {
	var out outcome
	for _, t := range r.targets(name{svc.Namespace, svc.Name}) {
		if strings.EqualFold(t.label, label) {
			out.exists = true
			out.answer = append(out.answer, r.addresses(qname, qtype, []netip.Addr{t.ip})...)
		}
	}
	out.answer = distinct(out.answer)
	if !out.exists && (label == "_tcp" || label == "_udp" || label == "_sctp") {
		for _, p := range svc.Spec.Ports {
			out.exists = out.exists || "_"+strings.ToLower(string(p.Protocol)) == label
		}
	}
	return out
}

// ports answers SRV questions: for one named port, or for all with an empty port.
func (r *records) ports(qname string, qtype uint16, base string, svc *corev1.Service, port, proto string) outcome {
	out := outcome{exists: port == ""}
	add := func(to string, number int32, ips []netip.Addr) {
		out.exists = true
		if qtype != dns.TypeSRV {
			return
		}
		out.answer = append(out.answer, &dns.SRV{Hdr: r.header(qname, qtype), Weight: 100, Port: uint16(number), Target: to})
		out.extra = append(out.extra, r.addresses(to, dns.TypeA, ips)...)
		out.extra = append(out.extra, r.addresses(to, dns.TypeAAAA, ips)...)
	}
	matches := func(portName, protocol string) bool {
		return port == "" || strings.EqualFold("_"+portName, port) && strings.EqualFold("_"+protocol, proto)
	}
	if !headless(svc) {
		for _, p := range svc.Spec.Ports {
			if matches(p.Name, string(p.Protocol)) {
				add(base, p.Port, addrs(svc.Spec.ClusterIPs, svc.Spec.ClusterIP))
			}
		}
	} else {
		for _, t := range r.targets(name{svc.Namespace, svc.Name}) {
			for _, p := range t.ports {
				if p.Port != nil && matches(deref(p.Name, ""), string(deref(p.Protocol, corev1.ProtocolTCP))) {
					add(t.label+"."+base, *p.Port, []netip.Addr{t.ip})
				}
			}
		}
	}
	for i := range out.answer {
		if srv, ok := out.answer[i].(*dns.SRV); ok {
			srv.Weight = uint16(max(1, 100/len(out.answer)))
		}
	}
	out.answer, out.extra = distinct(out.answer), distinct(out.extra)
	return out
}

// reverse answers for cluster addresses and endpoints; others are somebody else's.
func (r *records) reverse(qname string, qtype uint16) outcome {
	ip, ok := fromArpa(qname)
	if !ok {
		return outcome{outside: true}
	}
	var out outcome
	ptr := func(to string) {
		out.exists = true
		if qtype == dns.TypePTR {
			out.answer = append(out.answer, &dns.PTR{Hdr: r.header(qname, dns.TypePTR), Ptr: to})
		}
	}
	if n, known := r.index.clusterIP[ip]; known {
		ptr(n.service + "." + n.namespace + ".svc." + r.zone)
	}
	for n := range r.index.endpointIP[ip] {
		for _, t := range r.targets(n) {
			if t.ip == ip {
				ptr(t.label + "." + n.service + "." + n.namespace + ".svc." + r.zone)
				break
			}
		}
	}
	out.answer = distinct(out.answer)
	out.outside = !out.exists
	return out
}

// fromArpa parses a reverse name.
func fromArpa(qname string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(qname, ".in-addr.arpa."); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		ip, err := netip.ParseAddr(strings.Join(labels, "."))
		return ip, err == nil && ip.Is4()
	}
	rest, _ := strings.CutSuffix(qname, ".ip6.arpa.")
	digits := strings.Split(rest, ".")
	if len(digits) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(digits)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(d)
	}
	ip, err := netip.ParseAddr(b.String())
	return ip, err == nil
}

// distinct drops equal records, keeping the order.
func distinct(in []dns.RR) []dns.RR {
	if len(in) < 2 {
		return in
	}
	seen := make(map[string]bool, len(in))
	return slices.DeleteFunc(in, func(rr dns.RR) bool {
		s := rr.String()
		was := seen[s]
		seen[s] = true
		return was
	})
}

func deref[T any](p *T, unset T) T {
	if p == nil {
		return unset
	}
	return *p
}
