package audit

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/access"
)

// level is how much is kept; the order counts.
type level int

const (
	none level = iota
	metadata
	request
	requestResponse
)

var levels = [...]auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest, auditv1.LevelRequestResponse}

var stages = []auditv1.Stage{auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StagePanic}

// Policy decides what is kept of which request.
type Policy struct {
	rules []rule
	rest  rule
}

// rule is one of the policy's, with what the policy says for all.
type rule struct {
	auditv1.PolicyRule
	level   level
	omit    [4]bool // by stage
	managed bool    // managedFields are kept
}

// defaultPolicy is for those who give none: who changed what, and what people and
// workloads read, without the cluster's own reading and its heartbeats.
const defaultPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version*", "/openapi*", "/api*", "/metrics*"]
- level: None
  resources:
  - {group: coordination.k8s.io, resources: [leases]}
  - {group: "", resources: [events]}
  - {group: events.k8s.io, resources: [events]}
- level: None
  userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  verbs: [get, list, watch]
- level: None
  users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"]
  verbs: [get, list, watch]
- level: None
  userGroups: ["system:nodes"]
  verbs: [patch, update]
  resources:
  - {group: "", resources: [nodes/status, pods/status]}
- level: Metadata
`

// DefaultPolicy is what holds when no policy file is given.
func DefaultPolicy() *Policy {
	p, err := ParsePolicy([]byte(defaultPolicy))
	if err != nil {
		return &Policy{rest: rule{level: metadata}} // a test reads the text: it is valid
	}
	return p
}

// LoadPolicy reads a policy file.
func LoadPolicy(file string) (*Policy, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the audit policy: %w", err)
	}
	p, err := ParsePolicy(raw)
	if err != nil {
		return nil, fmt.Errorf("audit policy %s: %w", file, err)
	}
	return p, nil
}

// ParsePolicy reads and checks a policy in YAML or JSON.
func ParsePolicy(raw []byte) (*Policy, error) {
	in := &auditv1.Policy{}
	if err := yaml.UnmarshalStrict(raw, in); err != nil {
		return nil, err
	}
	if in.Kind != "Policy" || in.APIVersion != "audit.k8s.io/v1" {
		return nil, fmt.Errorf("is %q of %q: must be Policy of audit.k8s.io/v1", in.Kind, in.APIVersion)
	}
	if len(in.Rules) == 0 {
		return nil, fmt.Errorf("it has no rules, so nothing would be kept")
	}
	if errs := validate(in); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	p := &Policy{}
	for _, one := range in.Rules {
		r := rule{PolicyRule: one, level: level(slices.Index(levels[:], one.Level)), managed: !in.OmitManagedFields}
		for _, s := range append(slices.Clone(in.OmitStages), one.OmitStages...) {
			r.omit[slices.Index(stages, s)] = true
		}
		if one.OmitManagedFields != nil {
			r.managed = !*one.OmitManagedFields
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// find gives the first rule that a request matches.
func (p *Policy) find(a *access.Attributes) *rule {
	for i := range p.rules {
		if p.rules[i].matches(a) {
			return &p.rules[i]
		}
	}
	return &p.rest
}

func (r *rule) matches(a *access.Attributes) bool {
	if len(r.Users) > 0 && (a.User == nil || !slices.Contains(r.Users, a.User.Name)) {
		return false
	}
	if len(r.UserGroups) > 0 && (a.User == nil || !slices.ContainsFunc(a.User.Groups, func(g string) bool { return slices.Contains(r.UserGroups, g) })) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, a.Verb) {
		return false
	}
	switch {
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		return a.Resource && r.matchesResource(a)
	case len(r.NonResourceURLs) > 0:
		return !a.Resource && slices.ContainsFunc(r.NonResourceURLs, func(url string) bool {
			start, wild := strings.CutSuffix(url, "*")
			return url == a.Path || wild && strings.HasPrefix(a.Path, start)
		})
	}
	return true
}

func (r *rule) matchesResource(a *access.Attributes) bool {
	if len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, a.Namespace) {
		return false
	}
	if len(r.Resources) == 0 {
		return true
	}
	for i := range r.Resources {
		gr := &r.Resources[i]
		if gr.Group != a.Group && gr.Group != "*" {
			continue
		}
		if len(gr.Resources) == 0 {
			return true
		}
		if len(gr.ResourceNames) > 0 && !slices.Contains(gr.ResourceNames, a.Name) {
			continue
		}
		if slices.ContainsFunc(gr.Resources, func(res string) bool { return matchesName(res, a) }) {
			return true
		}
	}
	return false
}

// matchesName reads pods, pods/log, pods/*, */scale and *.
func matchesName(res string, a *access.Attributes) bool {
	plural, sub, both := strings.Cut(res, "/")
	switch {
	case res == "*":
		return true
	case !both:
		return plural == a.Plural && a.Subresource == ""
	case sub == "*":
		return plural == a.Plural
	case plural == "*":
		return sub == a.Subresource
	}
	return plural == a.Plural && sub == a.Subresource
}

// validate checks a policy in the words of Kubernetes.
func validate(p *auditv1.Policy) field.ErrorList {
	errs := validateStages(p.OmitStages, field.NewPath("omitStages"))
	for i := range p.Rules {
		r, at := &p.Rules[i], field.NewPath("rules").Index(i)
		switch {
		case r.Level == "":
			errs = append(errs, field.Required(at.Child("level"), ""))
		case !slices.Contains(levels[:], r.Level):
			errs = append(errs, field.NotSupported(at.Child("level"), r.Level, levels[:]))
		}
		for j, url := range r.NonResourceURLs {
			at := at.Child("nonResourceURLs").Index(j)
			if url != "*" && !strings.HasPrefix(url, "/") {
				errs = append(errs, field.Invalid(at, url, "non-resource URL rules must begin with a '/' character"))
			}
			if url != "" && strings.Contains(url[:len(url)-1], "*") {
				errs = append(errs, field.Invalid(at, url, "non-resource URL wildcards '*' must be the final character of the rule"))
			}
		}
		errs = append(errs, validateResources(r.Resources, at.Child("resources"))...)
		errs = append(errs, validateStages(r.OmitStages, at.Child("omitStages"))...)
		if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
	}
	return errs
}

func validateResources(all []auditv1.GroupResources, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range all {
		gr := &all[i]
		if gr.Group != "" && gr.Group != "*" {
			if msgs := validation.NameIsDNSSubdomain(gr.Group, false); len(msgs) > 0 {
				errs = append(errs, field.Invalid(at.Child("group"), gr.Group, strings.Join(msgs, ",")))
			}
		}
		if len(gr.ResourceNames) > 0 && len(gr.Resources) == 0 {
			errs = append(errs, field.Invalid(at.Child("resourceNames"), gr.ResourceNames, "using resourceNames requires at least one resource"))
		}
	}
	return errs
}

func validateStages(all []auditv1.Stage, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range all {
		if !slices.Contains(stages, s) {
			errs = append(errs, field.Invalid(at.Index(i), string(s), "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"))
		}
	}
	return errs
}
