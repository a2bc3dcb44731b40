package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/proa-dev/proa/internal/netpol"
)

// kind says what an object is in the kernel.
type kind int

const (
	peerSet  kind = iota // address; its elements change
	namedSet             // address . protocol . port; its elements change
	blockSet             // ranges of addresses
	portSet              // ranges of ports
	allows               // chain: what one policy allows in one direction
	judges               // chain: what all policies of a pod allow, and the end of everything else
)

// object is a set or chain. All but the elements of the first two kinds follows from its name,
// so that what changed has another name, and a difference is a difference of names.
type object struct {
	kind   kind
	side   netpol.Direction // of chains
	name   string
	uses   []*object // what must be there before; lent to it, see rules.lend
	blocks []netpol.Range
	ports  []netpol.PortRange
	rules  []rule // of allows
	peer   string // of peerSet and namedSet: the ID

	users     int             // pods and objects
	installed bool            // in the kernel
	elements  map[element]int // of peerSet and namedSet: in how many slices; nil while nobody uses it
	before    map[element]bool
}

// element is an address of a peer, for a named port with what it is there.
type element struct {
	addr     netip.Addr
	protocol uint8
	port     uint16
}

// rule accepts what matches all that is set in it. The other side is the source of ingress,
// the destination of egress.
type rule struct {
	peer, named, block string // sets
	protocol           uint8  // 0: any
	first, last        uint16 // 0 to 65535: any, also none
	ports              string // set, instead of first to last
}

func (r rule) anyPort() bool { return r.ports == "" && r.first == 0 && r.last == 65535 }

func digest(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return hex.EncodeToString(sum[:16])
}

func newPeerSet(peer string, k kind) *object {
	prefix := "peer-"
	if k == namedSet {
		prefix = "peer-ports-"
	}
	return &object{kind: k, name: prefix + peer, peer: peer}
}

func newBlockSet(blocks []netpol.Range) *object {
	return &object{kind: blockSet, name: "block-" + digest(blocks), blocks: blocks}
}

func newPortSet(ports []netpol.PortRange) *object {
	return &object{kind: portSet, name: "ports-" + digest(ports), ports: ports}
}

// longestName keeps chain names below the kernel's 255 bytes.
const longestName = 120

// newAllows is the chain of a policy. A named port is that of the pod that is reached: the
// policy's own in ingress, where port tells its number.
func newAllows(p *netpol.Policy, d netpol.Direction, port func(netpol.NamedPort) (uint16, bool)) *object {
	o := &object{kind: allows, side: d}
	for i := range p.Rules[d] {
		r := p.Rules[d][i]
		if d == netpol.Ingress {
			r = r.Resolved(port)
		}
		o.add(&r)
	}
	name := p.Name[:min(len(p.Name), longestName)]
	o.name = fmt.Sprintf("%s/%s/%s/%s", d, p.Namespace, name, digest(p.Name, o.rules)[:16])
	return o
}

// add makes the rules that allow what r does.
func (o *object) add(r *netpol.Rule) {
	var others []rule
	if r.Anywhere {
		others = append(others, rule{})
	}
	for _, p := range r.Peers {
		others = append(others, rule{peer: o.use(newPeerSet(p.ID(), peerSet))})
	}
	if len(r.Blocks) > 0 {
		others = append(others, rule{block: o.use(newBlockSet(r.Blocks))})
	}
	for _, one := range others {
		for _, m := range o.portMatches(r) {
			m.peer, m.block = one.peer, one.block
			o.rules = append(o.rules, m)
		}
	}
	for _, n := range r.Named {
		for _, p := range r.Peers {
			o.addNamed(p.With(n), rule{})
		}
		if r.Anywhere {
			o.addNamed(netpol.AllPodsWith(n), rule{})
		} else if len(r.Blocks) > 0 {
			o.addNamed(netpol.AllPodsWith(n), rule{block: o.use(newBlockSet(r.Blocks))})
		}
	}
	o.prune()
}

func (o *object) addNamed(p netpol.Peer, r rule) {
	r.named, r.last = o.use(newPeerSet(p.ID(), namedSet)), 65535
	o.rules = append(o.rules, r)
}

// portMatches are the ports of a rule: one match for each protocol.
func (o *object) portMatches(r *netpol.Rule) []rule {
	if r.AllPorts {
		return []rule{{last: 65535}}
	}
	var out []rule
	for rest := r.Ports; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Protocol == rest[0].Protocol {
			n++
		}
		m := rule{protocol: rest[0].Protocol, first: rest[0].First, last: rest[0].Last}
		if n > 1 {
			m.ports, m.first, m.last = o.use(newPortSet(rest[:n])), 0, 0
		}
		out, rest = append(out, m), rest[n:]
	}
	return out
}

// use notes that o needs another object and gives its name.
func (o *object) use(other *object) string {
	for _, u := range o.uses {
		if u.name == other.name {
			return u.name
		}
	}
	o.uses = append(o.uses, other)
	return other.name
}

// prune forgets what no rule needs: peers of a rule all of whose ports are named.
func (o *object) prune() {
	needed := map[string]bool{}
	for _, r := range o.rules {
		needed[r.peer], needed[r.named], needed[r.block], needed[r.ports] = true, true, true, true
	}
	kept := o.uses[:0]
	for _, u := range o.uses {
		if needed[u.name] {
			kept = append(kept, u)
		}
	}
	o.uses = kept
}

// newJudges is the chain of pods that the same policies select.
func newJudges(namespace string, d netpol.Direction, policies []*object) *object {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.name
	}
	return &object{kind: judges, side: d, uses: policies,
		name: fmt.Sprintf("%s/%s/%s", d, namespace, digest(strings.Join(names, "\n"))[:16])}
}
