package custom

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

var ownFinalizers = []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents, string(corev1.FinalizerKubernetes)}

// finalizerWarnings tells of new finalizers whose names others could choose too.
func finalizerWarnings(u, old object) (all []string) {
	var had []string
	if old != nil {
		had = old.GetFinalizers()
	}
	added := slices.DeleteFunc(slices.Clone(u.GetFinalizers()), func(f string) bool { return slices.Contains(had, f) })
	slices.Sort(added)
	for _, f := range slices.Compact(added) {
		for _, msg := range validation.IsQualifiedName(f) {
			all = append(all, fmt.Sprintf("metadata.finalizers: %q: %s", f, msg))
		}
		including := ""
		switch {
		case strings.Contains(f, "/") || slices.Contains(ownFinalizers, f):
			continue
		case strings.Contains(f, "."):
			including = " including a path (/)"
		}
		all = append(all, fmt.Sprintf("metadata.finalizers: %q: prefer a domain-qualified finalizer name%s to avoid accidental conflicts with other finalizer writers", f, including))
	}
	return all
}
