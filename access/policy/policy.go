// Package policy decides by admission policies: expressions in CEL that an administrator
// stores, and bindings that say where they hold.
//
// The one idea: a policy is compiled once for each of its versions, together with its
// bindings; a request for which there is none pays two comparisons of numbers.
//
// Used by cluster, which puts the two steps into the admission chain.
package policy

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
)

// Config of Policies.
type Config struct {
	Reader     api.Reader
	Kinds      match.Kinds
	Authorizer access.Authorizer
	// Merge applies a configuration to an object of the kind as server-side apply does, and
	// gives the result; obj is read-only.
	Merge func(kind *api.Kind, obj runtime.Object, configuration map[string]any) (runtime.Object, error)
	Log   *slog.Logger
}

// Policies are all admission policies; safe for concurrent use.
type Policies struct {
	env        match.Env
	merge      func(*api.Kind, runtime.Object, map[string]any) (runtime.Object, error)
	log        *slog.Logger
	mutating   list
	validating list
}

// New makes the steps; policies are read with each request.
func New(cfg Config) *Policies {
	kind := func(k *api.Kind) schema.GroupResource { return k.GroupResource() }
	return &Policies{
		env:   match.Env{Reader: cfg.Reader, Kinds: cfg.Kinds, Authorizer: cfg.Authorizer},
		merge: cfg.Merge, log: cfg.Log,
		mutating: list{
			policies: kind(admissionregistration.MutatingAdmissionPolicies),
			bindings: kind(admissionregistration.MutatingAdmissionPolicyBindings), compile: compileMutating,
		},
		validating: list{
			policies: kind(admissionregistration.ValidatingAdmissionPolicies),
			bindings: kind(admissionregistration.ValidatingAdmissionPolicyBindings), compile: compileValidating,
		},
	}
}

// Mutating is the step that changes objects.
func (p *Policies) Mutating() admission.Step {
	return admission.Step{Name: "MutatingAdmissionPolicy", Mutator: mutator{p}}
}

// Validating is the step that refuses them.
func (p *Policies) Validating() admission.Step {
	return admission.Step{Name: "ValidatingAdmissionPolicy", Validator: validator{p}}
}

// list is one sort of policies with their bindings, compiled.
type list struct {
	policies, bindings schema.GroupResource
	compile            func(api.Object) *policy
	current            atomic.Pointer[compiled]
	mu                 sync.Mutex // held to compile
}

type compiled struct {
	revisions [2]int64 // of policies and bindings
	bound     []bound  // policies that have a binding, by name
	policies  map[string]*policy
}

// bound is a policy with its bindings, by name.
type bound struct {
	*policy
	bindings []*binding
}

// all gives what is bound now.
func (l *list) all(reader api.Reader) []bound {
	revisions := [2]int64{reader.Revision(l.policies), reader.Revision(l.bindings)}
	if c := l.current.Load(); c != nil && c.revisions == revisions {
		return c.bound
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.current.Load()
	if old != nil && old.revisions == revisions {
		return old.bound
	}
	c := &compiled{revisions: revisions, policies: map[string]*policy{}}
	bindings := map[string][]*binding{}
	for _, o := range reader.List(l.bindings, "") {
		if b := newBinding(o); b != nil {
			bindings[b.policy] = append(bindings[b.policy], b)
		}
	}
	for _, o := range reader.List(l.policies, "") {
		of := bindings[o.GetName()]
		if len(of) == 0 {
			continue
		}
		version := o.GetResourceVersion() + "/" + string(o.GetUID())
		var p *policy
		if old != nil {
			p = old.policies[o.GetName()]
		}
		if p == nil || p.version != version {
			if p = l.compile(o); p == nil {
				continue
			}
			p.version = version
		}
		slices.SortFunc(of, func(a, b *binding) int { return cmp.Compare(a.name, b.name) })
		c.policies[p.name] = p
		c.bound = append(c.bound, bound{p, of})
	}
	slices.SortFunc(c.bound, func(a, b bound) int { return cmp.Compare(a.name, b.name) })
	l.current.Store(c)
	return c.bound
}
