package admission

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// externalAddresses refuses services that claim further addresses: whoever may write them
// could have any address lead to himself. Those that a service has may stay or go.
type externalAddresses struct{}

func (externalAddresses) Validate(_ context.Context, a *Attributes) error {
	if a.Kind.GroupResource() != corev1.Resource("services") || a.Subresource != "" || a.Operation != Create && a.Operation != Update {
		return nil
	}
	service, ok := a.Object.(*corev1.Service)
	if !ok {
		return nil
	}
	var had []string
	if old, ok := a.Old.(*corev1.Service); ok {
		had = old.Spec.ExternalIPs
	}
	for _, ip := range service.Spec.ExternalIPs {
		if !slices.Contains(had, ip) {
			return forbidden(a, errors.New("Use of external IPs is denied by admission control.")) //nolint:staticcheck // the text that clients know
		}
	}
	return nil
}
