// Package flowcontrol tells the server about flowcontrol.apiserver.k8s.io: which requests
// belong together (FlowSchema) and what share of the server each kind of them may take
// (PriorityLevelConfiguration).
//
// The one idea: two schemas and two levels always exist and are fixed, so that every request
// has a place, whatever else is configured; what is suggested beside them is a starting point.
//
// Used by cluster, which collects all kinds, and by apiserver/fairness.
package flowcontrol

import (
	"context"
	"fmt"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds of the group.
var Kinds = []*api.Kind{FlowSchemas, PriorityLevels}

// FlowSchemas is the kind FlowSchema.
var FlowSchemas = api.Define(api.Resource[*flowcontrolv1.FlowSchema]{
	Group: flowcontrolv1.GroupName, Version: "v1", Kind: "FlowSchema", Plural: "flowschemas",
	Alike:               []string{"v1beta1", "v1beta2", "v1beta3"},
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true,
	Unowned: map[string][]string{"status": {"spec", "metadata"}},
	Default: func(s *flowcontrolv1.FlowSchema) {
		if s.Spec.MatchingPrecedence == 0 {
			s.Spec.MatchingPrecedence = 1000
		}
	},
	PrepareCreate:  func(_ context.Context, s *flowcontrolv1.FlowSchema) { s.Status = flowcontrolv1.FlowSchemaStatus{} },
	Validate:       validateFlowSchema,
	ValidateStatus: func(s, _ *flowcontrolv1.FlowSchema) field.ErrorList { return validateFlowSchemaStatus(s) },
	Columns: []api.Column[*flowcontrolv1.FlowSchema]{
		{Name: "PriorityLevel", Description: flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"], Value: func(s *flowcontrolv1.FlowSchema) any {
			return s.Spec.PriorityLevelConfiguration.Name
		}},
		{Name: "MatchingPrecedence", Description: flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"], Value: func(s *flowcontrolv1.FlowSchema) any {
			return int64(s.Spec.MatchingPrecedence)
		}},
		{Name: "DistinguisherMethod", Description: flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"], Value: func(s *flowcontrolv1.FlowSchema) any {
			if s.Spec.DistinguisherMethod == nil {
				return none
			}
			return string(s.Spec.DistinguisherMethod.Type)
		}},
		api.Age[*flowcontrolv1.FlowSchema](),
		{Name: "MissingPL", Description: "references a broken or non-existent PriorityLevelConfiguration", Value: func(s *flowcontrolv1.FlowSchema) any {
			for _, c := range s.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					return string(c.Status)
				}
			}
			return "?"
		}},
	},
})

const none = "<none>"

// PriorityLevels is the kind PriorityLevelConfiguration.
var PriorityLevels = api.Define(api.Resource[*flowcontrolv1.PriorityLevelConfiguration]{
	Group: flowcontrolv1.GroupName, Version: "v1", Kind: "PriorityLevelConfiguration", Plural: "prioritylevelconfigurations",
	Alike:               []string{"v1beta1", "v1beta2", "v1beta3"},
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true,
	Unowned: map[string][]string{"status": {"spec", "metadata"}},
	Default: defaultPriorityLevel,
	PrepareCreate: func(_ context.Context, p *flowcontrolv1.PriorityLevelConfiguration) {
		p.Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
	},
	Validate: validatePriorityLevel,
	ValidateStatus: func(p, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
		return validatePriorityLevelStatus(p)
	},
	Columns: []api.Column[*flowcontrolv1.PriorityLevelConfiguration]{
		{Name: "Type", Description: flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"], Value: func(p *flowcontrolv1.PriorityLevelConfiguration) any {
			return string(p.Spec.Type)
		}},
		{Name: "NominalConcurrencyShares", Description: flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"], Value: func(p *flowcontrolv1.PriorityLevelConfiguration) any {
			if p.Spec.Limited == nil || p.Spec.Limited.NominalConcurrencyShares == nil {
				return none
			}
			return int64(*p.Spec.Limited.NominalConcurrencyShares)
		}},
		queuing("Queues", "queues", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues }),
		queuing("HandSize", "handSize", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize }),
		queuing("QueueLengthLimit", "queueLengthLimit", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit }),
		api.Age[*flowcontrolv1.PriorityLevelConfiguration](),
	},
})

func queuing(name, doc string, value func(*flowcontrolv1.QueuingConfiguration) int32) api.Column[*flowcontrolv1.PriorityLevelConfiguration] {
	return api.Column[*flowcontrolv1.PriorityLevelConfiguration]{
		Name: name, Description: flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()[doc],
		Value: func(p *flowcontrolv1.PriorityLevelConfiguration) any {
			if p.Spec.Limited == nil || p.Spec.Limited.LimitResponse.Queuing == nil {
				return none
			}
			return int64(value(p.Spec.Limited.LimitResponse.Queuing))
		},
	}
}

func defaultPriorityLevel(p *flowcontrolv1.PriorityLevelConfiguration) {
	if e := p.Spec.Exempt; e != nil {
		fillPtr(&e.NominalConcurrencyShares, 0)
		fillPtr(&e.LendablePercent, 0)
	}
	l := p.Spec.Limited
	if l == nil {
		return
	}
	fillPtr(&l.NominalConcurrencyShares, 30)
	fillPtr(&l.LendablePercent, 0)
	if q := l.LimitResponse.Queuing; q != nil {
		fill(&q.HandSize, 8)
		fill(&q.Queues, 64)
		fill(&q.QueueLengthLimit, 50)
	}
}

func fill(field *int32, value int32) {
	if *field == 0 {
		*field = value
	}
}

func fillPtr(field **int32, value int32) {
	if *field == nil {
		*field = &value
	}
}

// validateFixed refuses to change what must always be as it is.
func validateFixed(name string, spec, fixed any, text string) field.ErrorList {
	if equality.Semantic.DeepEqual(spec, fixed) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), spec, fmt.Sprintf(text, name))}
}
