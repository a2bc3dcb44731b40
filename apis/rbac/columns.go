package rbac

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/proa-dev/proa/apis/api"
)

func age[T api.Object](o T) any {
	at := o.GetCreationTimestamp()
	if at.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(at.Time))
}

// created is shown for roles, whose only column beside the name it is.
func created[T api.Object](o T) any { return o.GetCreationTimestamp().UTC().Format(time.RFC3339) }

func subjectNames(subjects []rbacv1.Subject, kind string, withNamespace bool) string {
	var names []string
	for _, s := range subjects {
		if s.Kind != kind {
			continue
		}
		if withNamespace {
			names = append(names, s.Namespace+"/"+s.Name)
			continue
		}
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}
