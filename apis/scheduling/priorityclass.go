// Package scheduling describes the kinds of scheduling.k8s.io to the server.
package scheduling

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{priorityClasses}

// Limits of priority values; above HighestUser are the system's own.
const (
	HighestUser    = int32(1000000000)
	SystemCritical = 2 * HighestUser
	systemPrefix   = "system-"
)

var priorityClasses = api.Define(api.Resource[*schedulingv1.PriorityClass]{
	Group: schedulingv1.GroupName, Version: "v1", Kind: "PriorityClass", Plural: "priorityclasses", Short: []string{"pc"},
	Alike:               []string{"v1beta1"},
	UnconditionalUpdate: true,
	Default: func(c *schedulingv1.PriorityClass) {
		if c.PreemptionPolicy == nil {
			p := corev1.PreemptLowerPriority
			c.PreemptionPolicy = &p
		}
	},
	PrepareCreate:  func(_ context.Context, c *schedulingv1.PriorityClass) { c.Generation = 1 },
	ValidateCreate: validate,
	ValidateUpdate: validateUpdate,
	Columns: []api.Column[*schedulingv1.PriorityClass]{
		{Name: "Value", Type: "integer", Description: schedulingv1.PriorityClass{}.SwaggerDoc()["value"], Value: func(c *schedulingv1.PriorityClass) any { return int64(c.Value) }},
		{Name: "Global-Default", Type: "boolean", Description: schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"], Value: func(c *schedulingv1.PriorityClass) any { return c.GlobalDefault }},
		api.Age[*schedulingv1.PriorityClass](),
		{Name: "PreemptionPolicy", Description: schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"], Value: func(c *schedulingv1.PriorityClass) any {
			if c.PreemptionPolicy == nil {
				return ""
			}
			return string(*c.PreemptionPolicy)
		}},
	},
})

// System gives the classes that every cluster has.
func System() []*schedulingv1.PriorityClass {
	class := func(name string, value int32, text string) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: text}
	}
	return []*schedulingv1.PriorityClass{
		class("system-cluster-critical", SystemCritical, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
		class("system-node-critical", SystemCritical+1000, "Used for system critical pods that must not be moved from their current node."),
	}
}

// differs says why a class is not one of those that every cluster has; empty: it is.
func differs(c *schedulingv1.PriorityClass) string {
	for _, s := range System() {
		switch {
		case s.Name != c.Name:
		case s.Value != c.Value:
			return fmt.Sprintf("value of %s PriorityClass must be %d", c.Name, s.Value)
		case c.GlobalDefault:
			return fmt.Sprintf("globalDefault of %s PriorityClass must be false", c.Name)
		default:
			return ""
		}
	}
	return c.Name + " is not a known system priority class"
}

func validate(c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(c.Name, systemPrefix) {
		if why := differs(c); why != "" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+why))
		}
	} else if c.Value > HighestUser {
		errs = append(errs, field.Forbidden(field.NewPath("value"),
			fmt.Sprintf("maximum allowed value of a user defined priority is %v", HighestUser)))
	}
	if p := c.PreemptionPolicy; p != nil && *p == "" {
		errs = append(errs, field.Required(field.NewPath("preemptionPolicy"), ""))
	} else if p != nil && *p != corev1.PreemptLowerPriority && *p != corev1.PreemptNever {
		errs = append(errs, field.NotSupported(field.NewPath("preemptionPolicy"), *p, []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}))
	}
	return errs
}

func validateUpdate(c, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if c.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	if a, b := c.PreemptionPolicy, old.PreemptionPolicy; a != nil && b != nil && *a != *b {
		errs = append(errs, field.Invalid(field.NewPath("preemptionPolicy"), a, "field is immutable"))
	}
	return errs
}
