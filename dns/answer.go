package dns

import (
	"context"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

const (
	maxCached = 8192 // answers kept
	maxKeyed  = 300  // bytes of a question that is worth keeping
	maxChain  = 8    // CNAMEs followed
	udpSize   = 1232 // of answers, whatever the client allows: what no path fragments
)

// responder turns query packets into answer packets. Answers about the cluster are kept
// in their encoded form until the index changes: the key is the whole query but its ID,
// so that case and EDNS options are answered in kind.
type responder struct {
	records *records
	forward *forwarder

	mu         sync.RWMutex
	generation uint64
	kept       map[string][]byte
}

// respond answers a query. It gives nil for what is no query, and outside=true for one
// that has to be forwarded (by resolve).
func (r *responder) respond(query []byte, udp bool) (answer []byte, outside bool) {
	if len(query) < 12 || query[2]&0x80 != 0 {
		return nil, false
	}
	if udp && len(query) <= maxKeyed {
		if kept := r.find(query); kept != nil {
			return kept, false
		}
	}
	var m dns.Msg
	if err := m.Unpack(query); err != nil {
		return refusal(query, dns.RcodeFormatError), false
	}
	if bad := unusual(&m); bad != dns.RcodeSuccess {
		return refusal(query, bad), false
	}
	r.records.index.mu.RLock()
	generation := r.records.index.generation
	r.records.index.mu.RUnlock()
	q := m.Question[0]
	out := r.records.lookup(strings.ToLower(q.Name), q.Qtype)
	if out.outside || external(out, r.records.zone) {
		return nil, true
	}
	packet := r.pack(&m, out, udp)
	if udp && len(query) <= maxKeyed {
		r.keep(query, packet, generation)
	}
	return packet, false
}

// external tells a CNAME that leads out of the cluster: its target is looked up outside.
func external(o outcome, zone string) bool {
	if len(o.answer) != 1 {
		return false
	}
	c, ok := o.answer[0].(*dns.CNAME)
	return ok && !dns.IsSubDomain(zone, c.Target)
}

// unusual gives the code for questions that are not answered.
func unusual(m *dns.Msg) int {
	switch {
	case m.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case len(m.Question) != 1:
		return dns.RcodeFormatError
	case m.Question[0].Qclass != dns.ClassINET, m.Question[0].Qtype == dns.TypeAXFR, m.Question[0].Qtype == dns.TypeIXFR:
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

func (r *responder) find(query []byte) []byte {
	r.records.index.mu.RLock()
	now := r.records.index.generation
	r.records.index.mu.RUnlock()
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.generation != now {
		return nil
	}
	kept := r.kept[string(query[2:])]
	if kept == nil {
		return nil
	}
	out := make([]byte, len(kept))
	copy(out, kept)
	out[0], out[1] = query[0], query[1]
	return out
}

func (r *responder) keep(query, packet []byte, generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation < r.generation {
		return
	}
	if generation > r.generation || len(r.kept) >= maxCached {
		r.generation, r.kept = generation, map[string][]byte{}
	}
	r.kept[string(query[2:])] = packet
}

// pack encodes an outcome.
func (r *responder) pack(m *dns.Msg, out outcome, udp bool) []byte {
	reply := new(dns.Msg)
	reply.SetReply(m)
	reply.Authoritative, reply.RecursionAvailable = true, true
	reply.Answer, reply.Extra = r.follow(m.Question[0], out), out.extra
	if !out.exists {
		reply.Rcode = dns.RcodeNameError
	}
	if len(reply.Answer) == 0 {
		r.records.index.mu.RLock()
		reply.Ns = []dns.RR{r.records.soa()}
		r.records.index.mu.RUnlock()
	}
	return finish(m, reply, udp)
}

// follow resolves CNAMEs that stay in the cluster.
func (r *responder) follow(q dns.Question, out outcome) []dns.RR {
	answer := out.answer
	for range maxChain {
		if len(answer) == 0 || q.Qtype == dns.TypeCNAME {
			break
		}
		c, ok := answer[len(answer)-1].(*dns.CNAME)
		if !ok {
			break
		}
		next := r.records.lookup(c.Target, q.Qtype)
		if next.outside || len(next.answer) == 0 {
			break
		}
		answer = append(answer, next.answer...)
	}
	return answer
}

// finish adds EDNS in kind, cuts to size and encodes; nil when it cannot be encoded.
func finish(m, reply *dns.Msg, udp bool) []byte {
	size := dns.MinMsgSize
	if opt := m.IsEdns0(); opt != nil {
		size = max(dns.MinMsgSize, min(int(opt.UDPSize()), udpSize))
		reply.SetEdns0(udpSize, opt.Do())
	}
	if !udp {
		size = dns.MaxMsgSize
	}
	reply.Compress = true
	reply.Truncate(size)
	b, err := reply.Pack()
	if err != nil {
		return nil
	}
	return b
}

// refusal answers with a code alone, from the query's header.
func refusal(query []byte, code int) []byte {
	out := make([]byte, 12)
	copy(out, query[:4])
	out[2] = out[2]&0x79 | 0x80
	out[3] = 0x80 | byte(code)
	return out
}

// resolve answers a query that needs somebody outside.
func (r *responder) resolve(ctx context.Context, query []byte, udp bool) []byte {
	var m dns.Msg
	if err := m.Unpack(query); err != nil || len(m.Question) != 1 {
		return nil
	}
	q := m.Question[0]
	out := r.records.lookup(strings.ToLower(q.Name), q.Qtype)
	if out.outside {
		return r.forward.resolve(ctx, query, &m, udp)
	}
	reply := new(dns.Msg)
	reply.SetReply(&m)
	reply.Authoritative, reply.RecursionAvailable, reply.Answer = true, true, out.answer
	if c, ok := out.answer[0].(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
		ask := new(dns.Msg)
		ask.SetQuestion(c.Target, q.Qtype)
		if b, err := ask.Pack(); err == nil {
			var far dns.Msg
			if far.Unpack(r.forward.resolve(ctx, b, ask, false)) == nil {
				reply.Answer = append(reply.Answer, far.Answer...)
			}
		}
	}
	return finish(&m, reply, udp)
}
