package apiserver

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// deprecation is what the Go types of kinds that go out of use say: since which release, when they
// go, and what takes their place.
type deprecation interface {
	APILifecycleDeprecated() (major, minor int)
}

type removal interface {
	APILifecycleRemoved() (major, minor int)
}

type replacement interface {
	APILifecycleReplacement() schema.GroupVersionKind
}

// deprecated is what clients of a kind are warned of, "" for most. No type that is served says it
// of a release to come.
func deprecated(k *api.Kind) string {
	if k.Custom != nil {
		return k.Custom.Deprecated
	}
	obj := k.New()
	since, ok := obj.(deprecation)
	if !ok {
		return ""
	}
	major, minor := since.APILifecycleDeprecated()
	text := fmt.Sprintf("%s %s is deprecated in v%d.%d+", k.GroupVersion(), k.Kind, major, minor)
	if until, ok := obj.(removal); ok {
		if major, minor := until.APILifecycleRemoved(); major > 0 {
			text += fmt.Sprintf(", unavailable in v%d.%d+", major, minor)
		}
	}
	if by, ok := obj.(replacement); ok {
		if gvk := by.APILifecycleReplacement(); !gvk.Empty() {
			text += fmt.Sprintf("; use %s %s", gvk.GroupVersion(), gvk.Kind)
		}
	}
	return text
}

// warnDeprecated tells the client, and the audit log, that what it uses goes out of use.
func (r *request) warnDeprecated() {
	if r.kind.deprecated == "" {
		return
	}
	r.warn(r.kind.deprecated)
	r.record.Annotate("k8s.io/deprecated", "true")
	if r.sub == "" { // what is asked for below may be anything
		r.s.metrics.Deprecated(r.gv.Group, r.gv.Version, r.resource, "", "")
	}
}
