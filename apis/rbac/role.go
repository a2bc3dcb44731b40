package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Roles are sets of rules within a namespace.
var Roles = api.Define(api.Resource[*rbacv1.Role]{
	Group: group, Version: version, Kind: "Role", Plural: "roles", Namespaced: true,
	Alike:          []string{"v1beta1"},
	CreateOnUpdate: true, UnconditionalUpdate: true,
	ValidateName: validateName,
	Validate:     func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true) },
	Columns: []api.Column[*rbacv1.Role]{
		{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], Value: created[*rbacv1.Role]},
	},
})
