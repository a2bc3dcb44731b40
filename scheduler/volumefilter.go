package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	storage "k8s.io/component-helpers/storage/volume"
)

// Why a node cannot have a pod's volumes.
const (
	reasonExclusive   = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
	reasonVolumeLimit = "node(s) exceed max volume count"
	reasonVolumeNode  = "node(s) didn't match PersistentVolume's node affinity"
	reasonNoVolume    = "node(s) didn't find available persistent volumes to bind"
	reasonNoSpace     = "node(s) did not have enough free storage"
	reasonVolumeZone  = "node(s) had no available volume zone"
)

var everything = labels.Everything()

// refuse gives the reasons why a node cannot have a pod's volumes, none when it can.
func (v *volumes) refuse(s *state, p *placement, i int) (reasons []string, stuck bool) {
	for _, claim := range p.volumes.exclusive {
		if v.users[claim] > 0 { // trying evictions takes users away
			return []string{reasonExclusive}, false
		}
	}
	node := s.nodes[i]
	if reason := v.limits(s, p.volumes, i); reason != "" {
		return []string{reason}, false
	}
	for _, b := range p.volumes.bound {
		if storage.CheckNodeAffinity(b.volume, node.Labels) != nil {
			reasons = append(reasons, reasonVolumeNode)
			break
		}
	}
	if _, reason := v.choice(p.volumes, node); reason != "" {
		reasons = append(reasons, reason)
	}
	if len(reasons) == 0 && !zoned(p.volumes.zones, node.Labels) {
		reasons = append(reasons, reasonVolumeZone)
	}
	return reasons, len(reasons) > 0
}

// choice finds a volume for each unbound claim on a node, or that one can be made there.
func (v *volumes) choice(p *podVolumes, node *corev1.Node) (*volumeChoice, string) {
	c := &volumeChoice{}
	taken := map[string]*corev1.PersistentVolume{}
	for _, claim := range p.unbound {
		selected := claim.Annotations[storage.AnnSelectedNode]
		if decided := v.provision[claim.Namespace+"/"+claim.Name]; decided != "" {
			selected = decided
		}
		if selected != "" && selected != node.Name {
			return nil, reasonNoVolume
		}
		if selected == "" {
			found, err := storage.FindMatchingVolume(claim, p.available[storage.GetPersistentVolumeClaimClass(claim)], node, taken, true, true)
			if err != nil {
				return nil, reasonNoVolume
			}
			if found != nil {
				taken[found.Name] = found
				c.bindings = append(c.bindings, volumeBinding{volume: found, claim: claim})
				continue
			}
		}
		if reason := v.canProvision(claim, node); reason != "" {
			return nil, reason
		}
		c.provisions = append(c.provisions, claim)
	}
	return c, ""
}

// canProvision says why no volume can be made for a claim on a node, "" when one can.
func (v *volumes) canProvision(claim *corev1.PersistentVolumeClaim, node *corev1.Node) string {
	class, err := v.provisioner(claim)
	if err != nil || class == nil || !allowedTopology(class.AllowedTopologies, node.Labels) {
		return reasonNoVolume
	}
	if !v.hasSpace(class, claim, node) {
		return reasonNoSpace
	}
	return ""
}

// hasSpace asks the capacities that a CSI driver publishes, when it does.
func (v *volumes) hasSpace(class *storagev1.StorageClass, claim *corev1.PersistentVolumeClaim, node *corev1.Node) bool {
	size, asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	driver, err := v.drivers.Get(class.Provisioner)
	if !asked || err != nil || driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return true
	}
	all, err := v.capacities.List(everything)
	if err != nil {
		return true // the cache answers; it has no errors to give
	}
	return slices.ContainsFunc(all, func(c *storagev1.CSIStorageCapacity) bool {
		if c.StorageClassName != class.Name || c.NodeTopology == nil {
			return false
		}
		limit := c.MaximumVolumeSize
		if limit == nil {
			limit = c.Capacity
		}
		if limit == nil || limit.Value() < size.Value() {
			return false
		}
		selector, err := metav1.LabelSelectorAsSelector(c.NodeTopology)
		return err == nil && selector.Matches(labels.Set(node.Labels))
	})
}

// allowedTopology: no terms allow every node, otherwise one of them must match.
func allowedTopology(terms []corev1.TopologySelectorTerm, nodeLabels map[string]string) bool {
	return len(terms) == 0 || slices.ContainsFunc(terms, func(t corev1.TopologySelectorTerm) bool {
		return len(t.MatchLabelExpressions) > 0 &&
			!slices.ContainsFunc(t.MatchLabelExpressions, func(r corev1.TopologySelectorLabelRequirement) bool {
				value, ok := nodeLabels[r.Key]
				return !ok || !slices.Contains(r.Values, value)
			})
	})
}

// zoned: a node that has labels of zones at all has those of the volumes.
func zoned(zones []zoneLabel, nodeLabels map[string]string) bool {
	if len(zones) == 0 || !slices.ContainsFunc(zoneKeys[:], func(key string) bool { _, ok := nodeLabels[key]; return ok }) {
		return true
	}
	for _, z := range zones {
		value, ok := nodeLabels[z.key]
		if !ok {
			value, ok = nodeLabels[currentKey(z.key)]
		}
		if !ok || !slices.Contains(z.values, value) {
			return false
		}
	}
	return true
}

func currentKey(key string) string {
	switch key {
	case corev1.LabelFailureDomainBetaZone:
		return corev1.LabelTopologyZone
	case corev1.LabelFailureDomainBetaRegion:
		return corev1.LabelTopologyRegion
	}
	return key
}

// limits says why a node cannot attach the pod's volumes beside those it has, "" when it can.
func (v *volumes) limits(s *state, p *podVolumes, i int) string {
	if len(p.csi) == 0 {
		return ""
	}
	csi, err := v.nodes.Get(s.nodes[i].Name)
	if err != nil {
		csi = nil // nothing is known of the node: it has no limits
	}
	allowed := map[string]int{}
	installed := map[string]bool{}
	if csi != nil {
		for _, d := range csi.Spec.Drivers {
			installed[d.Name] = true
			if d.Allocatable != nil && d.Allocatable.Count != nil {
				allowed[d.Name] = int(*d.Allocatable.Count)
			}
		}
	}
	for _, driver := range p.csi {
		if known, err := v.drivers.Get(driver); err == nil && !installed[driver] &&
			known.Spec.PreventPodSchedulingIfMissing != nil && *known.Spec.PreventPodSchedulingIfMissing {
			return driver + " CSI driver is not installed on the node"
		}
	}
	if len(allowed) == 0 {
		return ""
	}
	attached := v.attached(s, i)
	wanted := map[string]int{}
	for volume, driver := range p.csi {
		if _, there := attached[volume]; !there {
			wanted[driver]++
		}
	}
	for _, driver := range attached {
		if wanted[driver] > 0 {
			wanted[driver]++
		}
	}
	for driver, n := range wanted {
		if most, limited := allowed[driver]; limited && n > most {
			return reasonVolumeLimit
		}
	}
	return ""
}

// attached lists the CSI volumes of a node, by unique name: those its pods use, and those
// that are attached.
func (v *volumes) attached(s *state, i int) map[string]string {
	attached := map[string]string{}
	for _, c := range s.podsOnNode[i] {
		for _, use := range c.uses {
			claim, err := v.claims.PersistentVolumeClaims(c.pod.Namespace).Get(use[len(c.pod.Namespace)+1:])
			if err != nil {
				continue // gone; it holds nothing
			}
			if driver, handle := v.csiOf(claim); driver != "" {
				attached[driver+"/"+handle] = driver
			}
		}
	}
	all, err := v.attachments.List(everything)
	if err != nil {
		return attached
	}
	for _, a := range all {
		if a.Spec.NodeName != s.nodes[i].Name || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if volume, err := v.all.Get(*a.Spec.Source.PersistentVolumeName); err == nil && volume.Spec.CSI != nil {
			attached[volume.Spec.CSI.Driver+"/"+volume.Spec.CSI.VolumeHandle] = volume.Spec.CSI.Driver
		}
	}
	return attached
}
