// Package node describes the kinds of node.k8s.io to the server.
package node

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/apis/internal/check"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{runtimeClasses}

type class = *nodev1.RuntimeClass

// runtimeClasses name the runtimes that pods may ask for, and what these cost.
var runtimeClasses = api.Define(api.Resource[class]{
	Group: nodev1.GroupName, Version: "v1", Kind: "RuntimeClass", Plural: "runtimeclasses",
	Alike:          []string{"v1beta1"},
	CreateOnUpdate: true,
	Validate:       validate,
	ValidateUpdate: func(c, old class) field.ErrorList {
		return check.Unchanged(field.NewPath("handler"), c.Handler, old.Handler)
	},
	Columns: []api.Column[class]{
		api.Text("Handler", metav1.ObjectMeta{}.SwaggerDoc()["handler"], func(c class) string { return c.Handler }),
		api.Age[class](),
	},
})

func validate(c class) field.ErrorList {
	errs := check.Required(field.NewPath("handler"), c.Handler, "")
	if len(errs) == 0 {
		errs = check.Label(field.NewPath("handler"), c.Handler)
	}
	if c.Overhead != nil {
		errs = append(errs, core.ValidateOverhead(c.Overhead.PodFixed, field.NewPath("overhead"))...)
	}
	if s := c.Scheduling; s != nil {
		path := field.NewPath("scheduling")
		errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
		errs = append(errs, validateTolerations(s.Tolerations, path.Child("tolerations"))...)
	}
	return errs
}

func validateTolerations(list []corev1.Toleration, path *field.Path) field.ErrorList {
	errs := core.ValidateTolerations(list, path)
	for i, t := range list {
		same := func(o corev1.Toleration) bool { return apiequality.Semantic.DeepEqual(o, t) }
		if slices.ContainsFunc(list[:i], same) {
			errs = append(errs, field.Duplicate(path.Index(i), t))
		}
	}
	return errs
}
