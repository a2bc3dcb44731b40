package fairness

import (
	"cmp"
	"math"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"github.com/proa-dev/proa/access"
)

// plan is the configuration, compiled; it never changes.
type plan struct {
	schemas []*flowSchema // in the order in which they are asked
	levels  map[string]*levelPlan
}

// flowSchema says which requests are its own, and where they go.
type flowSchema struct {
	name, level  string
	uid          []string // as a header has it
	precedence   int32
	byUser, byNS bool
	rules        []rule
	counters     *counters
}

// rule is one of a schema's: who, and what.
type rule struct {
	anyone    bool
	users     []string // service accounts by their user names
	prefixes  []string // "system:serviceaccount:ns:", for all accounts of a namespace
	groups    []string
	resources []resourceRule
	paths     []pathRule
}

type resourceRule struct {
	verbs, groups, resources, namespaces set
	clusterScope                         bool
}

type pathRule struct {
	verbs set
	paths []string // "*", whole paths, and prefixes that end in "/*"
}

// set is a list, or everything.
type set struct {
	all    bool
	values []string
}

func newSet(values []string) set { return set{slices.Contains(values, "*"), values} }

func (s set) has(v string) bool { return s.all || slices.Contains(s.values, v) }

// levelPlan is what a priority level may have.
type levelPlan struct {
	name                    string
	uid                     []string // as a header has it
	exempt, queuing         bool
	nominal, reserved, most int // seats: its own; those never lent; the most with borrowed ones
	queues, hand, length    int
}

// compile makes a plan of what is configured for a server with so many seats. A schema
// without its level is left out, and named.
func compile(schemas []*flowcontrolv1.FlowSchema, levels []*flowcontrolv1.PriorityLevelConfiguration, seats int) (p *plan, dangling map[string]bool) {
	p, dangling = &plan{levels: map[string]*levelPlan{}}, map[string]bool{}
	total := 0.0
	for _, l := range levels {
		total += float64(shares(l))
	}
	for _, l := range levels {
		p.levels[l.Name] = compileLevel(l, total, seats)
	}
	for _, s := range schemas {
		if p.levels[s.Spec.PriorityLevelConfiguration.Name] == nil {
			dangling[s.Name] = true
			continue
		}
		p.schemas = append(p.schemas, compileSchema(s))
	}
	slices.SortFunc(p.schemas, func(a, b *flowSchema) int {
		return cmp.Or(cmp.Compare(a.precedence, b.precedence), strings.Compare(a.name, b.name))
	})
	return p, dangling
}

func shares(l *flowcontrolv1.PriorityLevelConfiguration) int32 {
	switch {
	case l.Spec.Limited != nil && l.Spec.Limited.NominalConcurrencyShares != nil:
		return *l.Spec.Limited.NominalConcurrencyShares
	case l.Spec.Exempt != nil && l.Spec.Exempt.NominalConcurrencyShares != nil:
		return *l.Spec.Exempt.NominalConcurrencyShares
	}
	return 0
}

func compileLevel(l *flowcontrolv1.PriorityLevelConfiguration, total float64, seats int) *levelPlan {
	p := &levelPlan{name: l.Name, uid: []string{string(l.UID)}, exempt: l.Spec.Limited == nil, most: math.MaxInt32}
	if total > 0 {
		p.nominal = int(math.Ceil(float64(seats) * float64(shares(l)) / total))
	}
	p.reserved = p.nominal
	limited := l.Spec.Limited
	if limited == nil {
		p.reserved = 0 // exempt requests wait for nobody, and nothing is kept for them
		return p
	}
	if percent := limited.LendablePercent; percent != nil {
		p.reserved -= int(math.Round(float64(p.nominal) * float64(*percent) / 100))
	}
	if percent := limited.BorrowingLimitPercent; percent != nil {
		p.most = p.nominal + int(math.Round(float64(p.nominal)*float64(*percent)/100))
	}
	if q := limited.LimitResponse.Queuing; q != nil && limited.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue {
		p.queuing, p.queues, p.hand, p.length = true, min(int(q.Queues), maxQueues), min(int(q.HandSize), maxHand), int(q.QueueLengthLimit)
		p.hand = min(p.hand, p.queues)
	}
	return p
}

func compileSchema(s *flowcontrolv1.FlowSchema) *flowSchema {
	out := &flowSchema{name: s.Name, uid: []string{string(s.UID)}, level: s.Spec.PriorityLevelConfiguration.Name, precedence: s.Spec.MatchingPrecedence}
	if m := s.Spec.DistinguisherMethod; m != nil {
		out.byUser = m.Type == flowcontrolv1.FlowDistinguisherMethodByUserType
		out.byNS = m.Type == flowcontrolv1.FlowDistinguisherMethodByNamespaceType
	}
	for i := range s.Spec.Rules {
		out.rules = append(out.rules, compileRule(&s.Spec.Rules[i]))
	}
	return out
}

func compileRule(r *flowcontrolv1.PolicyRulesWithSubjects) rule {
	var out rule
	for _, s := range r.Subjects {
		switch {
		case s.User != nil && s.User.Name == "*", s.Group != nil && s.Group.Name == "*":
			out.anyone = true
		case s.User != nil:
			out.users = append(out.users, s.User.Name)
		case s.Group != nil:
			out.groups = append(out.groups, s.Group.Name)
		case s.ServiceAccount != nil && s.ServiceAccount.Name == "*":
			out.prefixes = append(out.prefixes, "system:serviceaccount:"+s.ServiceAccount.Namespace+":")
		case s.ServiceAccount != nil:
			out.users = append(out.users, "system:serviceaccount:"+s.ServiceAccount.Namespace+":"+s.ServiceAccount.Name)
		}
	}
	for _, one := range r.ResourceRules {
		out.resources = append(out.resources, resourceRule{
			newSet(one.Verbs), newSet(one.APIGroups), newSet(one.Resources), newSet(one.Namespaces), one.ClusterScope,
		})
	}
	for _, one := range r.NonResourceRules {
		out.paths = append(out.paths, pathRule{newSet(one.Verbs), one.NonResourceURLs})
	}
	return out
}

// find gives the first schema that a request is of; nil when it is of none.
func (p *plan) find(a *access.Attributes) *flowSchema {
	for _, s := range p.schemas {
		for i := range s.rules {
			if s.rules[i].matches(a) {
				return s
			}
		}
	}
	return nil
}

func (r *rule) matches(a *access.Attributes) bool {
	if !r.who(a) {
		return false
	}
	if !a.Resource {
		for i := range r.paths {
			if r.paths[i].matches(a) {
				return true
			}
		}
		return false
	}
	for i := range r.resources {
		if r.resources[i].matches(a) {
			return true
		}
	}
	return false
}

func (r *rule) who(a *access.Attributes) bool {
	if r.anyone || slices.Contains(r.users, a.User.Name) {
		return true
	}
	for _, g := range r.groups {
		if slices.Contains(a.User.Groups, g) {
			return true
		}
	}
	for _, p := range r.prefixes {
		if strings.HasPrefix(a.User.Name, p) {
			return true
		}
	}
	return false
}

func (r *resourceRule) matches(a *access.Attributes) bool {
	if !r.verbs.has(a.Verb) || !r.groups.has(a.Group) || !r.resource(a) {
		return false
	}
	if a.Namespace == "" {
		return r.clusterScope
	}
	return r.namespaces.has(a.Namespace)
}

func (r *resourceRule) resource(a *access.Attributes) bool {
	if a.Subresource == "" || r.resources.all {
		return r.resources.has(a.Plural)
	}
	for _, v := range r.resources.values {
		if len(v) == len(a.Plural)+1+len(a.Subresource) && strings.HasPrefix(v, a.Plural) && strings.HasSuffix(v, a.Subresource) && v[len(a.Plural)] == '/' {
			return true
		}
	}
	return false
}

func (r *pathRule) matches(a *access.Attributes) bool {
	if !r.verbs.has(a.Verb) {
		return false
	}
	for _, p := range r.paths {
		if p == "*" || p == a.Path || strings.HasSuffix(p, "/*") && strings.HasPrefix(a.Path, p[:len(p)-1]) {
			return true
		}
	}
	return false
}

// flow tells the requests of a schema apart: who shares a flow shares its queues.
func (s *flowSchema) flow(a *access.Attributes) string {
	switch {
	case s.byUser:
		return a.User.Name
	case s.byNS:
		return a.Namespace
	}
	return ""
}
