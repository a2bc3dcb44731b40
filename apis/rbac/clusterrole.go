package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// ClusterRoles are sets of rules for the whole cluster, or to be bound in namespaces.
var ClusterRoles = api.Define(api.Resource[*rbacv1.ClusterRole]{
	Group: group, Version: version, Kind: "ClusterRole", Plural: "clusterroles",
	Alike:          []string{"v1beta1"},
	CreateOnUpdate: true, UnconditionalUpdate: true,
	ValidateName: validateName,
	Validate:     validateClusterRole,
	Columns: []api.Column[*rbacv1.ClusterRole]{
		{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], Value: created[*rbacv1.ClusterRole]},
	},
})

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false)
	if a := r.AggregationRule; a != nil {
		errs = append(errs, validateSelectors(a.ClusterRoleSelectors, field.NewPath("aggregationRule", "clusterRoleSelectors"))...)
	}
	return errs
}
