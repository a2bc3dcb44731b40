package flowcontrol_test

import (
	"strings"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/flowcontrol"
)

// What a cluster begins with is valid, and defaults change nothing of it.
func TestBootstrap(t *testing.T) {
	for _, p := range append(flowcontrol.MandatoryLevels(), flowcontrol.SuggestedLevels()...) {
		before := p.DeepCopy()
		flowcontrol.PriorityLevels.Default(p)
		if errs := flowcontrol.PriorityLevels.Validate(p); len(errs) > 0 || p.String() != before.String() {
			t.Errorf("%s: %v", p.Name, errs)
		}
	}
	for _, s := range append(flowcontrol.MandatorySchemas(), flowcontrol.SuggestedSchemas()...) {
		before := s.DeepCopy()
		flowcontrol.FlowSchemas.Default(s)
		if errs := flowcontrol.FlowSchemas.Validate(s); len(errs) > 0 || s.String() != before.String() {
			t.Errorf("%s: %v", s.Name, errs)
		}
	}
}

func check(t *testing.T, name string, errs field.ErrorList, want string) {
	t.Helper()
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), want) {
		t.Errorf("%s: %v, want %q", name, errs, want)
	}
}

func TestSchemaRules(t *testing.T) {
	for want, edit := range map[string]func(*flowcontrolv1.FlowSchema){
		"only the schema named 'exempt' may have matchingPrecedence 1":                     func(s *flowcontrolv1.FlowSchema) { s.Spec.MatchingPrecedence = 1 },
		"spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000":    func(s *flowcontrolv1.FlowSchema) { s.Spec.MatchingPrecedence = 10001 },
		"must reference a priority level":                                                  func(s *flowcontrolv1.FlowSchema) { s.Spec.PriorityLevelConfiguration.Name = "" },
		"spec.rules[0].subjects: Required value: subjects must contain at least one value": func(s *flowcontrolv1.FlowSchema) { s.Spec.Rules[0].Subjects = nil },
		"user is required when subject kind is 'User'":                                     func(s *flowcontrolv1.FlowSchema) { s.Spec.Rules[0].Subjects[0] = flowcontrolv1.Subject{Kind: "User"} },
		"if '*' is present, must not specify other verbs":                                  func(s *flowcontrolv1.FlowSchema) { s.Spec.Rules[0].ResourceRules[0].Verbs = []string{"*", "get"} },
		"resource rules that are not cluster scoped must supply at least one namespace": func(s *flowcontrolv1.FlowSchema) {
			s.Spec.Rules[0].ResourceRules[0].Namespaces, s.Spec.Rules[0].ResourceRules[0].ClusterScope = nil, false
		},
		"wildcard can only do suffix matching": func(s *flowcontrolv1.FlowSchema) {
			s.Spec.Rules[0].NonResourceRules[0].NonResourceURLs = []string{"/a*"}
		},
		`spec.distinguisherMethod.type: Unsupported value: "X": supported values: "ByNamespace", "ByUser"`: func(s *flowcontrolv1.FlowSchema) { s.Spec.DistinguisherMethod.Type = "X" },
		"spec of 'catch-all' must equal the fixed value":                                                   func(s *flowcontrolv1.FlowSchema) { s.Name = "catch-all" },
	} {
		s := flowcontrol.SuggestedSchemas()[8]
		edit(s)
		check(t, want, flowcontrol.FlowSchemas.Validate(s), want)
	}
}

func TestLevelRules(t *testing.T) {
	minus, much := int32(-1), int32(101)
	for want, edit := range map[string]func(*flowcontrolv1.PriorityLevelConfiguration){
		"spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer": func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Limited.NominalConcurrencyShares = &minus },
		"must be between 0 and 100, inclusive":                                                     func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Limited.LendablePercent = &much },
		"if specified, must be a non-negative integer":                                             func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Limited.BorrowingLimitPercent = &minus },
		"should not be greater than queues (2)":                                                    func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Limited.LimitResponse.Queuing.Queues = 2 },
		"required entropy bits of deckSize 4096 and handSize 6 should not be greater than 60":      func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Limited.LimitResponse.Queuing.Queues = 4096 },
		"must not be empty when type is Limited":                                                   func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Limited = nil },
		"must be nil if the type is Limited": func(p *flowcontrolv1.PriorityLevelConfiguration) {
			p.Spec.Exempt = &flowcontrolv1.ExemptPriorityLevelConfiguration{}
		},
		"must be 'Exempt' if and only if `name` is 'exempt'": func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Type, p.Spec.Limited = "Exempt", nil },
		"limited.limitResponse.type is not Limited":          func(p *flowcontrolv1.PriorityLevelConfiguration) { p.Spec.Limited.LimitResponse.Type = "Reject" },
	} {
		p := flowcontrol.SuggestedLevels()[0]
		edit(p)
		check(t, want, flowcontrol.PriorityLevels.Validate(p), want)
	}
	exempt := flowcontrol.MandatoryLevels()[0]
	*exempt.Spec.Exempt.NominalConcurrencyShares = 7
	if errs := flowcontrol.PriorityLevels.Validate(exempt); len(errs) > 0 {
		t.Errorf("the shares of exempt: %v", errs)
	}
}
