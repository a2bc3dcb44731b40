package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// podTopology tells a pod, by its labels, in which zone and region its node is, at the moment
// in which it gets the node: what runs in it reads that without access to nodes.
type podTopology struct{ env Env }

func (p *podTopology) Mutate(_ context.Context, a *Attributes) error {
	if a.Kind.GroupResource() != pods || a.Operation != Create {
		return nil
	}
	switch o := a.Object.(type) {
	case *corev1.Binding:
		if a.Subresource == "binding" && (o.Target.Kind == "" || o.Target.Kind == "Node") {
			o.Labels = p.labelled(o.Labels, o.Target.Name)
		}
	case *corev1.Pod:
		if a.Subresource == "" && o.Spec.NodeName != "" {
			o.Labels = p.labelled(o.Labels, o.Spec.NodeName)
		}
	}
	return nil
}

// labelled are the labels with the node's own; a node that is not there has none.
func (p *podTopology) labelled(labels map[string]string, name string) map[string]string {
	obj, ok := p.env.Reader.Get(nodes, "", name)
	if !ok {
		return labels
	}
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		value, has := obj.GetLabels()[key]
		if !has {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	return labels
}
