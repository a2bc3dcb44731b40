package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/internal/netpol"
)

// Pod names a pod of this node.
type Pod struct {
	Namespace, Name string
	UID             types.UID
}

// rules is what should be in the kernel and what is: a pure function of policies, the node's
// pods and the slices of peers, kept in step by counting users. From pods down: a pod that
// policies select uses a chain for each direction, that uses those of the policies, those use
// sets. What nobody uses is not there, so policies for pods elsewhere cost nothing here.
// A change costs the pods of its namespace, or the elements that differ.
type rules struct {
	policies map[string]map[string]*read // by namespace and name
	slices   map[string]map[string]*discoveryv1.EndpointSlice
	pods     map[types.UID]*pod
	attached map[netip.Addr]*pod
	objects  map[string]*object

	stale   map[string]struct{} // namespaces whose pods are to be judged anew
	touched map[*object]struct{}
	moved   map[netip.Addr]*verdicts // before this change
}

// read is a policy with what was made of it: chains by the ports they are for.
type read struct {
	*netpol.Policy
	chains [netpol.Directions]map[string]*object
}

// verdicts are the chains that judge a pod's traffic; nil: all is allowed.
type verdicts [netpol.Directions]*object

type pod struct {
	Pod
	object *corev1.Pod // nil: not seen (any more) by a process that began after it
	gone   bool        // from the API, that is
	addr   netip.Addr  // zero: not attached
	judged verdicts
}

func newRules() *rules {
	return &rules{policies: map[string]map[string]*read{}, slices: map[string]map[string]*discoveryv1.EndpointSlice{},
		pods: map[types.UID]*pod{}, attached: map[netip.Addr]*pod{}, objects: map[string]*object{},
		stale: map[string]struct{}{}, touched: map[*object]struct{}{}, moved: map[netip.Addr]*verdicts{}}
}

// setPolicy takes a policy as it is now; nil when it is gone.
func (r *rules) setPolicy(namespace, name string, p *networkingv1.NetworkPolicy) {
	if p == nil {
		delete(r.policies[namespace], name)
		if len(r.policies[namespace]) == 0 {
			delete(r.policies, namespace)
		}
	} else {
		if r.policies[namespace] == nil {
			r.policies[namespace] = map[string]*read{}
		}
		r.policies[namespace][name] = &read{Policy: netpol.Read(p)}
	}
	r.stale[namespace] = struct{}{}
}

// setPod takes a pod of this node as it is now.
func (r *rules) setPod(o *corev1.Pod) {
	p := r.pods[o.UID]
	if p == nil {
		p = &pod{Pod: Pod{o.Namespace, o.Name, o.UID}}
		r.pods[o.UID] = p
	}
	was := p.object
	p.object = o
	if was == nil || !maps.Equal(was.Labels, o.Labels) {
		r.judge(p)
	}
}

// removePod forgets a pod's object. While it is attached, what held for it goes on.
func (r *rules) removePod(uid types.UID) {
	if p := r.pods[uid]; p != nil {
		p.gone = true
		r.forget(p)
	}
}

// attach gives a pod its address.
func (r *rules) attach(who Pod, addr netip.Addr) {
	p := r.pods[who.UID]
	if p == nil {
		p = &pod{Pod: who}
		r.pods[who.UID] = p
	}
	if p.addr != addr {
		r.detach(p.addr)
		r.detach(addr)
		r.pods[who.UID], r.attached[addr], p.addr = p, p, addr
	}
	r.judge(p)
}

// detach takes an address away from whoever has it.
func (r *rules) detach(addr netip.Addr) {
	p := r.attached[addr]
	if p == nil {
		return
	}
	r.decide(p, verdicts{})
	delete(r.attached, addr)
	p.addr = netip.Addr{}
	r.forget(p)
}

func (r *rules) forget(p *pod) {
	if (p.gone || p.object == nil) && !p.addr.IsValid() && r.pods[p.UID] == p {
		delete(r.pods, p.UID)
	}
}

// knows says whether a pod's labels are known.
func (r *rules) knows(uid types.UID) bool { return r.pods[uid] != nil && r.pods[uid].object != nil }

// judge finds the chains for a pod.
func (r *rules) judge(p *pod) {
	if !p.addr.IsValid() {
		return
	}
	all := r.policies[p.Namespace]
	if len(all) == 0 && p.judged == (verdicts{}) {
		return
	}
	var found [netpol.Directions][]*object
	for _, name := range slices.Sorted(maps.Keys(all)) {
		policy := all[name]
		if p.object != nil && !policy.Selects.Matches(labels.Set(p.object.Labels)) {
			continue
		}
		for d := range netpol.Directions {
			switch {
			case !policy.Isolates[d]:
			case p.object == nil: // nobody knows what it is: nothing is allowed while policies are about
				found[d] = []*object{}
			default:
				found[d] = append(found[d], policy.chain(d, p.object))
			}
		}
	}
	var v verdicts
	for d, list := range found {
		if list != nil {
			v[d] = newJudges(p.Namespace, netpol.Direction(d), list)
		}
	}
	r.decide(p, v)
}

// chain is what the policy allows a pod: one chain for all, but for pods whose named ports differ.
func (p *read) chain(d netpol.Direction, of *corev1.Pod) *object {
	key := ""
	port := func(n netpol.NamedPort) (uint16, bool) { return n.NumberIn(of) }
	if d == netpol.Ingress {
		key = p.PortsKey(port)
	}
	if o := p.chains[d][key]; o != nil {
		return o
	}
	if p.chains[d] == nil {
		p.chains[d] = map[string]*object{}
	}
	o := newAllows(p.Policy, d, port)
	p.chains[d][key] = o
	return o
}

// decide makes v what judges the pod.
func (r *rules) decide(p *pod, v verdicts) {
	old := p.judged
	for d := range v {
		if v[d] != nil {
			v[d] = r.lend(v[d])
		}
	}
	if old != v {
		if _, noted := r.moved[p.addr]; !noted {
			r.moved[p.addr] = &old
		}
		p.judged = v
	}
	for _, o := range old {
		if o != nil {
			r.giveBack(o)
		}
	}
}

// lend counts one more user of an object, the one that is there if there is one, and of all
// that a new one uses.
func (r *rules) lend(o *object) *object {
	if there := r.objects[o.name]; there != nil {
		there.users++
		return there
	}
	// What was made for another pod, or read of a policy, is not changed.
	o = &object{kind: o.kind, side: o.side, name: o.name, uses: slices.Clone(o.uses), blocks: o.blocks, ports: o.ports, rules: o.rules, peer: o.peer, users: 1}
	r.objects[o.name] = o
	r.touched[o] = struct{}{}
	for i, u := range o.uses {
		o.uses[i] = r.lend(u)
	}
	if o.kind == peerSet || o.kind == namedSet {
		o.elements = map[element]int{}
		for _, s := range r.slices[o.peer] {
			o.count(s, 1)
		}
		o.before = nil
	}
	return o
}

// giveBack undoes lend. What nobody uses any more goes when the change is settled.
func (r *rules) giveBack(o *object) {
	o.users--
	r.touched[o] = struct{}{}
}

// setSlice takes a slice as it is now; nil when it is gone.
func (r *rules) setSlice(was, now *discoveryv1.EndpointSlice) {
	for _, s := range []*discoveryv1.EndpointSlice{was, now} {
		id := peerOf(s)
		if id == "" {
			continue
		}
		old := r.slices[id][s.Name]
		for _, o := range []*object{r.objects["peer-"+id], r.objects["peer-ports-"+id]} {
			if o != nil {
				if s == now {
					o.count(s, 1)
				}
				if old != nil {
					o.count(old, -1)
				}
				r.touched[o] = struct{}{}
			}
		}
		if s != now {
			delete(r.slices[id], s.Name)
		} else {
			if r.slices[id] == nil {
				r.slices[id] = map[string]*discoveryv1.EndpointSlice{}
			}
			r.slices[id][s.Name] = s
		}
		if len(r.slices[id]) == 0 {
			delete(r.slices, id)
		}
	}
}

// peerOf is the peer whose addresses a slice holds; "" when it is not for us. Slices in other
// namespaces may be written by those whom policies are to keep out.
func peerOf(s *discoveryv1.EndpointSlice) string {
	if s == nil || s.Namespace != netpol.SliceNamespace || s.Labels[discoveryv1.LabelManagedBy] != netpol.ManagedBy {
		return ""
	}
	return s.Labels[netpol.PeerLabel]
}

// count adds or takes away the elements of a slice.
func (o *object) count(s *discoveryv1.EndpointSlice, by int) {
	var e element
	if o.kind == namedSet {
		if len(s.Ports) != 1 || s.Ports[0].Port == nil || s.Ports[0].Protocol == nil {
			return
		}
		e.protocol = netpol.NamedPort{Protocol: *s.Ports[0].Protocol}.Number()
		e.port = uint16(*s.Ports[0].Port)
	}
	for i := range s.Endpoints {
		for _, text := range s.Endpoints[i].Addresses {
			addr, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil {
				continue
			}
			e.addr = addr
			if _, noted := o.before[e]; !noted {
				if o.before == nil {
					o.before = map[element]bool{}
				}
				o.before[e] = o.elements[e] > 0
			}
			if o.elements[e] += by; o.elements[e] <= 0 {
				delete(o.elements, e)
			}
		}
	}
}
