package core

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/apis/api"
)

// mountableSecrets keeps an account's pods to the secrets that it lists.
const mountableSecrets = "kubernetes.io/enforce-mountable-secrets"

// ServiceAccounts is the kind ServiceAccount.
var ServiceAccounts = api.Define(api.Resource[*corev1.ServiceAccount]{
	Version: "v1", Kind: "ServiceAccount", Plural: "serviceaccounts", Short: []string{"sa"}, Namespaced: true,
	UnconditionalUpdate: true,
	ValidateName:        apivalidation.ValidateServiceAccountName,
	Warnings: func(s, _ *corev1.ServiceAccount) []string {
		if _, ok := s.Annotations[mountableSecrets]; ok {
			return []string{"metadata.annotations[" + mountableSecrets + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
		}
		return nil
	},
	Columns: []api.Column[*corev1.ServiceAccount]{
		Age[*corev1.ServiceAccount](),
	},
	Actions: []api.Action{{
		Name: "token", Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest",
		New: func() runtime.Object { // with its default, which admission is to see
			seconds := int64(defaultTokenSeconds)
			return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
		},
		Do: issueToken,
	}},
})
