package admission

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"
)

// served is the version whose features an update may need; see nodeFeatures.
var served = version.MustParseSemantic("v1.37.1")

// nodeFeatures refuses changes of a running pod that its node does not say it can carry out
// (status.declaredFeatures, KEP-5328).
type nodeFeatures struct{ env Env }

func (f *nodeFeatures) Validate(_ context.Context, a *Attributes) error {
	pod, old := boundUpdate(a, "", "resize")
	if pod == nil {
		return nil
	}
	all := nodedeclaredfeatures.DefaultFramework
	needed, err := all.InferForPodUpdate(&nodedeclaredfeatures.PodInfo{Spec: &old.Spec, Status: &old.Status},
		&nodedeclaredfeatures.PodInfo{Spec: &pod.Spec, Status: &pod.Status}, served)
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to infer pod capability requirements: %w", err))
	}
	if needed.IsEmpty() {
		return nil
	}
	node, err := nodeOf(f.env, a, pod)
	if err != nil {
		return err
	}
	match, err := all.MatchNode(needed, node)
	if err != nil {
		return forbidden(a, fmt.Errorf("failed to match pod requirements against node %q: %w", node.Name, err))
	}
	if !match.IsMatch {
		return forbidden(a, fmt.Errorf("pod update requires features %s which are not available on node %q", strings.Join(match.UnsatisfiedRequirements, ", "), node.Name))
	}
	return nil
}
