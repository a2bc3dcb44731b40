package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

// immortal namespaces cannot be deleted.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// namespaceLifecycle refuses to create in namespaces that are not there, or are going.
type namespaceLifecycle struct{ env Env }

func (n *namespaceLifecycle) Mutate(_ context.Context, a *Attributes) error {
	kind := a.Kind.GroupResource()
	if kind == namespaces {
		if a.Operation == Delete && slices.Contains(immortal, a.Name) {
			return apierrors.NewForbidden(kind, a.Name, fmt.Errorf("this namespace may not be deleted"))
		}
		return nil
	}
	if !a.Kind.Namespaced || a.Namespace == "" || a.Operation == Delete || a.Kind.Virtual != nil {
		return nil
	}
	obj, ok := api.Sure(n.env.Reader, namespaces, "", a.Namespace)
	if !ok {
		return apierrors.NewNotFound(namespaces, a.Namespace)
	}
	ns, ok := obj.(*corev1.Namespace)
	if !ok || a.Operation != Create || ns.Status.Phase != corev1.NamespaceTerminating && ns.DeletionTimestamp == nil {
		return nil
	}
	err := apierrors.NewForbidden(kind, objectNameOr(a), fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace), Field: "metadata.namespace",
	})
	return err
}

func objectNameOr(a *Attributes) string {
	if a.Name != "" {
		return a.Name
	}
	return objectName(a)
}
