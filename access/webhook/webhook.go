// Package webhook asks webhooks about objects on their way in: mutating ones, which may
// change an object, one after the other; validating ones side by side.
//
// The one idea: configurations are compiled once for each of their versions, and a request
// for which no webhook is configured pays one comparison of two numbers.
//
// Used by cluster, which puts the two steps into the admission chain.
package webhook

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/access/admission/match"
	"github.com/proa-dev/proa/access/webhook/client"
	"github.com/proa-dev/proa/apis/admissionregistration"
	"github.com/proa-dev/proa/apis/api"
)

// Config of Webhooks.
type Config struct {
	Reader     api.Reader
	Kinds      match.Kinds
	Authorizer access.Authorizer
	Clients    *client.Clients
	Log        *slog.Logger
}

// Webhooks are all configured webhooks; safe for concurrent use.
type Webhooks struct {
	env        match.Env
	clients    *client.Clients
	log        *slog.Logger
	mutating   list
	validating list
}

// New makes the steps; configurations are read with each request.
func New(cfg Config) *Webhooks {
	w := &Webhooks{
		env:     match.Env{Reader: cfg.Reader, Kinds: cfg.Kinds, Authorizer: cfg.Authorizer},
		clients: cfg.Clients, log: cfg.Log,
	}
	w.mutating = list{kind: admissionregistration.MutatingWebhookConfigurations.GroupResource()}
	w.validating = list{kind: admissionregistration.ValidatingWebhookConfigurations.GroupResource()}
	return w
}

// The names of the steps, as upstream's plugins.
const (
	MutatingName   = "MutatingAdmissionWebhook"
	ValidatingName = "ValidatingAdmissionWebhook"
)

// Mutating is the step that lets webhooks change the object.
func (w *Webhooks) Mutating() admission.Step {
	return admission.Step{Name: MutatingName, Mutator: mutator{w}}
}

// Validating is the step that lets webhooks refuse it.
func (w *Webhooks) Validating() admission.Step {
	return admission.Step{Name: ValidatingName, Validator: validator{w}}
}

// list is one sort of configurations, compiled.
type list struct {
	kind    schema.GroupResource
	current atomic.Pointer[compiled]
	mu      sync.Mutex // held to compile
}

type compiled struct {
	revision int64
	configs  map[string]*config // by name
	hooks    []*hook            // of all, by configuration name, then as listed
}

type config struct {
	version string // resourceVersion and uid
	hooks   []*hook
}

// hook is one webhook, ready to be asked.
type hook struct {
	*admissionv1.MutatingWebhook
	configuration      string
	id                 string // unique among all
	namespaces, labels match.Selector
	conditions         match.Conditions
	client             *client.Client
	broken             error // why there is no client
}

// hooks gives those configured now.
func (l *list) hooks(w *Webhooks) []*hook {
	revision := w.env.Reader.Revision(l.kind)
	if c := l.current.Load(); c != nil && c.revision == revision {
		return c.hooks
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.current.Load()
	if old != nil && old.revision == revision {
		return old.hooks
	}
	fresh := &compiled{revision: revision, configs: map[string]*config{}}
	objects := w.env.Reader.List(l.kind, "")
	slices.SortFunc(objects, func(a, b api.Object) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, o := range objects {
		version := o.GetResourceVersion() + "/" + string(o.GetUID())
		var c *config
		if old != nil {
			c = old.configs[o.GetName()]
		}
		if c == nil || c.version != version {
			c = w.compile(o, version)
		}
		fresh.configs[o.GetName()] = c
		fresh.hooks = append(fresh.hooks, c.hooks...)
	}
	l.current.Store(fresh)
	return fresh.hooks
}

func (w *Webhooks) compile(o api.Object, version string) *config {
	var all []admissionv1.MutatingWebhook
	switch o := o.(type) {
	case *admissionv1.MutatingWebhookConfiguration:
		all = o.Webhooks
	case *admissionv1.ValidatingWebhookConfiguration:
		all = admissionregistration.Webhooks(o.Webhooks)
	}
	c := &config{version: version}
	for i := range all {
		h := &hook{
			MutatingWebhook: &all[i], configuration: o.GetName(),
			id:         o.GetName() + "/" + all[i].Name + "/" + strconv.Itoa(i),
			namespaces: match.NewSelector(all[i].NamespaceSelector), labels: match.NewSelector(all[i].ObjectSelector),
			conditions: match.NewConditions(all[i].MatchConditions, false),
		}
		h.client, h.broken = w.clients.For(all[i].ClientConfig)
		c.hooks = append(c.hooks, h)
	}
	return c
}

// ignores says that failures of the webhook let the request pass.
func (h *hook) ignores() bool {
	return h.FailurePolicy != nil && *h.FailurePolicy == admissionv1.Ignore
}
