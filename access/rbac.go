package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// The four kinds that RBAC reads.
var (
	roles               = rbacResource("roles")
	roleBindings        = rbacResource("rolebindings")
	clusterRoles        = rbacResource("clusterroles")
	clusterRoleBindings = rbacResource("clusterrolebindings")
	rbacKinds           = [...]schema.GroupResource{roles, roleBindings, clusterRoles, clusterRoleBindings}
)

func rbacResource(plural string) schema.GroupResource {
	return schema.GroupResource{Group: rbacv1.GroupName, Resource: plural}
}

// RBAC decides by roles and their bindings.
//
// All bindings are kept in an index from subject to what it is granted, made anew when one
// of the four kinds changed; so a decision looks only at the rules of those who ask, and
// needs no cache of its own. Until Settled is called, default roles and bindings that are
// not stored (yet) count as if they were.
type RBAC struct {
	reader   api.Reader
	defaults []api.Object
	settled  atomic.Bool
	index    atomic.Pointer[rbacIndex]
	mu       sync.Mutex // held while an index is made
}

var _ Authorizer = (*RBAC)(nil)

// NewRBAC decides from the cached objects of reader and the built-in defaults.
func NewRBAC(reader api.Reader) *RBAC {
	return &RBAC{reader: reader, defaults: DefaultObjects()}
}

// Settled says that the defaults are stored: from now on only stored objects count, so that
// an administrator's deletions hold.
func (r *RBAC) Settled() { r.settled.Store(true) }

// rbacStamp identifies the state that an index was made of.
type rbacStamp struct {
	revisions [len(rbacKinds)]int64
	settled   bool
}

// rbacIndex is immutable once made.
type rbacIndex struct {
	stamp    rbacStamp
	cluster  map[string][]grant            // by subject
	spaces   map[string]map[string][]grant // by namespace, subject
	clusters map[string]*rbacv1.ClusterRole
	computed map[string][]rbacv1.PolicyRule // of aggregating cluster roles
}

// grant is what one binding gives to one subject.
type grant struct {
	rules   []rbacv1.PolicyRule
	missing string // the role that is not there
	reason  func() string
}

func (r *RBAC) stamp() rbacStamp {
	s := rbacStamp{settled: r.settled.Load()}
	for i, kind := range rbacKinds {
		s.revisions[i] = r.reader.Revision(kind)
	}
	return s
}

// current takes the stamp before it reads, so an index may be newer than it says but never older.
func (r *RBAC) current() *rbacIndex {
	stamp := r.stamp()
	if x := r.index.Load(); x != nil && x.stamp == stamp {
		return x
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp = r.stamp()
	if x := r.index.Load(); x != nil && x.stamp == stamp {
		return x
	}
	x := r.build(stamp)
	r.index.Store(x)
	return x
}

func (r *RBAC) build(stamp rbacStamp) *rbacIndex {
	x := &rbacIndex{
		stamp: stamp, cluster: map[string][]grant{}, spaces: map[string]map[string][]grant{},
		clusters: map[string]*rbacv1.ClusterRole{}, computed: map[string][]rbacv1.PolicyRule{},
	}
	each(r, stamp, clusterRoles, func(role *rbacv1.ClusterRole) { x.clusters[role.Name] = role })
	for name, role := range x.clusters {
		if role.AggregationRule != nil {
			x.computed[name] = aggregate(role, x.clusters)
		}
	}
	local := map[string][]rbacv1.PolicyRule{}
	each(r, stamp, roles, func(role *rbacv1.Role) { local[role.Namespace+"/"+role.Name] = role.Rules })
	each(r, stamp, clusterRoleBindings, func(b *rbacv1.ClusterRoleBinding) {
		rules, missing := x.clusterRules(b.RoleRef)
		addGrants(x.cluster, "ClusterRoleBinding", b.Name, "", b.RoleRef, b.Subjects, rules, missing)
	})
	each(r, stamp, roleBindings, func(b *rbacv1.RoleBinding) {
		rules, missing := x.clusterRules(b.RoleRef)
		if b.RoleRef.Kind == "Role" {
			var ok bool
			if rules, ok = local[b.Namespace+"/"+b.RoleRef.Name]; !ok {
				missing = fmt.Sprintf("role.rbac.authorization.k8s.io %q not found", b.RoleRef.Name)
			} else {
				missing = ""
			}
		}
		space := x.spaces[b.Namespace]
		if space == nil {
			space = map[string][]grant{}
			x.spaces[b.Namespace] = space
		}
		addGrants(space, "RoleBinding", b.Name, b.Namespace, b.RoleRef, b.Subjects, rules, missing)
	})
	return x
}

// each visits the stored objects of a kind, then those defaults that are not stored.
func each[T api.Object](r *RBAC, stamp rbacStamp, kind schema.GroupResource, visit func(T)) {
	stored := map[string]bool{}
	for _, o := range r.reader.List(kind, "") {
		if t, ok := o.(T); ok {
			visit(t)
			stored[o.GetNamespace()+"/"+o.GetName()] = true
		}
	}
	if stamp.settled {
		return
	}
	for _, o := range r.defaults {
		if t, ok := o.(T); ok && !stored[o.GetNamespace()+"/"+o.GetName()] {
			visit(t)
		}
	}
}

func (x *rbacIndex) clusterRules(ref rbacv1.RoleRef) (rules []rbacv1.PolicyRule, missing string) {
	role, ok := x.clusters[ref.Name]
	if !ok || ref.Kind != "ClusterRole" {
		return nil, fmt.Sprintf("clusterrole.rbac.authorization.k8s.io %q not found", ref.Name)
	}
	if role.AggregationRule != nil {
		return x.computed[ref.Name], ""
	}
	return role.Rules, ""
}

func addGrants(to map[string][]grant, kind, name, namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject, rules []rbacv1.PolicyRule, missing string) {
	if namespace != "" {
		name += "/" + namespace
	}
	for _, s := range subjects {
		key := subjectKey(s, namespace)
		if key == "" {
			continue
		}
		to[key] = append(to[key], grant{rules: rules, missing: missing, reason: sync.OnceValue(func() string {
			return fmt.Sprintf("RBAC: allowed by %s %q of %s %q to %s", kind, name, ref.Kind, ref.Name, describe(s))
		})})
	}
}

func describe(s rbacv1.Subject) string {
	if s.Kind == rbacv1.ServiceAccountKind {
		return fmt.Sprintf("%s %q", s.Kind, s.Name+"/"+s.Namespace)
	}
	return fmt.Sprintf("%s %q", s.Kind, s.Name)
}

// Keys of the index: users and groups live in one map, told apart by the first byte.
const (
	userKey  = "u"
	groupKey = "g"
)

func subjectKey(s rbacv1.Subject, namespace string) string {
	switch s.Kind {
	case rbacv1.UserKind:
		return userKey + s.Name
	case rbacv1.GroupKind:
		return groupKey + s.Name
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		if namespace != "" {
			return userKey + serviceAccountPrefix + namespace + ":" + s.Name
		}
	}
	return ""
}

// grants visits what a user was given, cluster-wide first, until visit says stop.
func (x *rbacIndex) grants(user *api.User, namespace string, visit func(*grant) bool) {
	one := func(m map[string][]grant, key string) bool {
		list := m[key]
		for i := range list {
			if !visit(&list[i]) {
				return false
			}
		}
		return true
	}
	all := func(m map[string][]grant) bool {
		if len(m) == 0 {
			return true
		}
		if !one(m, userKey+user.Name) {
			return false
		}
		for _, g := range user.Groups {
			if !one(m, groupKey+g) {
				return false
			}
		}
		return true
	}
	if all(x.cluster) && namespace != "" {
		all(x.spaces[namespace])
	}
}

// Authorize never denies: what no rule allows is left to the next authorizer.
func (r *RBAC) Authorize(_ context.Context, a *Attributes) (Decision, string) {
	if a.User == nil {
		return NoOpinion, ""
	}
	namespace := a.Namespace
	if !a.Resource {
		namespace = ""
	}
	var allowed *grant
	var missing []string
	r.current().grants(a.User, namespace, func(g *grant) bool {
		if g.missing != "" {
			missing = append(missing, g.missing)
			return true
		}
		for i := range g.rules {
			if ruleAllows(&g.rules[i], a) {
				allowed = g
				return false
			}
		}
		return true
	})
	if allowed != nil {
		return Allow, allowed.reason()
	}
	if len(missing) == 0 {
		return NoOpinion, ""
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	text := strings.Join(missing, ", ")
	if len(missing) > 1 {
		text = "[" + text + "]"
	}
	return NoOpinion, "RBAC: " + text
}

// RulesFor gives all rules that a user holds in a namespace (cluster-wide ones included),
// and what could not be found out.
func (r *RBAC) RulesFor(user *api.User, namespace string) (rules []rbacv1.PolicyRule, problems []string) {
	r.current().grants(user, namespace, func(g *grant) bool {
		if g.missing != "" {
			problems = append(problems, g.missing)
		}
		rules = append(rules, g.rules...)
		return true
	})
	return rules, problems
}

// RoleRules gives the rules of the role that a binding in namespace refers to.
func (r *RBAC) RoleRules(ref rbacv1.RoleRef, namespace string) (rules []rbacv1.PolicyRule, found bool) {
	x := r.current()
	if ref.Kind != "Role" {
		rules, missing := x.clusterRules(ref)
		return rules, missing == ""
	}
	role, ok := r.reader.Get(roles, namespace, ref.Name)
	if ok {
		return role.(*rbacv1.Role).Rules, true
	}
	for _, o := range r.defaults {
		if role, ok := o.(*rbacv1.Role); ok && !x.stamp.settled && role.Namespace == namespace && role.Name == ref.Name {
			return role.Rules, true
		}
	}
	return nil, false
}
