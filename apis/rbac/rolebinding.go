package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// RoleBindings give roles, or cluster roles, to subjects within a namespace.
var RoleBindings = api.Define(api.Resource[*rbacv1.RoleBinding]{
	Group: group, Version: version, Kind: "RoleBinding", Plural: "rolebindings", Namespaced: true,
	Alike:          []string{"v1beta1"},
	CreateOnUpdate: true, UnconditionalUpdate: true,
	Default:      func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
	ValidateName: validateName,
	Validate: func(b *rbacv1.RoleBinding) field.ErrorList {
		return append(validateRoleRef(b.RoleRef, "Role", "ClusterRole"), validateSubjects(b.Subjects, true)...)
	},
	ValidateUpdate: func(b, old *rbacv1.RoleBinding) field.ErrorList { return sameRoleRef(b.RoleRef, old.RoleRef) },
	Columns: bindingColumns("roleBinding", rbacv1beta1.RoleBinding{}.SwaggerDoc(),
		func(b *rbacv1.RoleBinding) rbacv1.RoleRef { return b.RoleRef },
		func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects }),
})
