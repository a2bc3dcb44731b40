package statefulset

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/proa-dev/proa/controllers/loop"
)

// view is all that one decision looks at.
type view struct {
	set             *appsv1.StatefulSet
	current, update string // names of the revisions
	pods            []*corev1.Pod
	now             time.Time
}

// plan is the next step.
type plan struct {
	create []int // ordinals
	delete []*corev1.Pod
	drop   []*corev1.Pod // those of delete that the set has shrunk by
	ended  []*corev1.Pod // those of delete that came to an end by themselves
	status appsv1.StatefulSetStatus
	wait   time.Duration // until a ready pod counts as available; 0: none
}

// ordinal is a pod's number in the set; -1: none.
func ordinal(set, pod string) int {
	text, ok := strings.CutPrefix(pod, set+"-")
	n, err := strconv.ParseInt(text, 10, 32)
	if !ok || err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return -1
	}
	return int(n)
}

func podName(set *appsv1.StatefulSet, n int) string { return set.Name + "-" + strconv.Itoa(n) }

func start(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

func claimName(template string, pod string) string { return template + "-" + pod }

// podFor is the pod with an ordinal, of a revision's template.
func podFor(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, n int) *corev1.Pod {
	pod := loop.PodFromTemplate(template, set, kind)
	pod.GenerateName, pod.Name = "", podName(set, n)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[appsv1.PodIndexLabel] = strconv.Itoa(n)
	pod.Labels[appsv1.StatefulSetRevisionLabel] = revision
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	for _, t := range set.Spec.VolumeClaimTemplates {
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == t.Name })
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(t.Name, pod.Name)},
		}})
	}
	return pod
}

// claimsFor are the claims of a pod's storage.
func claimsFor(set *appsv1.StatefulSet, pod string) []*corev1.PersistentVolumeClaim {
	var out []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		t := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		t.Namespace, t.Name, t.Status = set.Namespace, claimName(t.Name, pod), corev1.PersistentVolumeClaimStatus{}
		t.Labels = maps.Clone(t.Labels)
		if t.Labels == nil {
			t.Labels = map[string]string{}
		}
		maps.Copy(t.Labels, set.Spec.Selector.MatchLabels)
		if p := set.Spec.PersistentVolumeClaimRetentionPolicy; p != nil && p.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
			t.OwnerReferences = append(t.OwnerReferences, *metav1.NewControllerRef(set, kind))
		}
		out = append(out, t)
	}
	return out
}

// revisionFor is the revision that a new pod is made of: below the partition the present
// one, else the one being rolled out.
func (v *view) revisionFor(n int) string {
	s := v.set.Spec.UpdateStrategy
	if s.Type == appsv1.RollingUpdateStatefulSetStrategyType && n < start(v.set)+v.partition() {
		return v.current
	}
	return v.update
}

func (v *view) partition() int {
	r := v.set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.Partition == nil {
		return 0
	}
	return int(*r.Partition)
}

func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }

// available says whether a pod runs and has been ready for long enough.
func (v *view) available(pod *corev1.Pod) (ok bool, wait time.Duration) {
	since, ready := loop.ReadySince(pod)
	if !ready || pod.Status.Phase != corev1.PodRunning {
		return false, 0
	}
	wait = since.Add(time.Duration(v.set.Spec.MinReadySeconds) * time.Second).Sub(v.now)
	return wait <= 0, max(wait, 0)
}

// healthy says whether the next pod in order may be touched.
func (v *view) healthy(pod *corev1.Pod) bool {
	ok, _ := v.available(pod)
	return ok && pod.DeletionTimestamp == nil
}

// decide is the pure core: it gives the next step towards the wish.
func decide(v view) plan {
	var p plan
	first, n := start(v.set), 0
	if v.set.Spec.Replicas != nil {
		n = int(*v.set.Spec.Replicas)
	}
	byOrdinal := map[int]*corev1.Pod{}
	var condemned []*corev1.Pod
	for _, pod := range v.pods {
		if o := ordinal(v.set.Name, pod.Name); o >= first && o < first+n {
			byOrdinal[o] = pod
		} else if o >= 0 {
			condemned = append(condemned, pod)
		}
	}
	slices.SortFunc(condemned, func(a, b *corev1.Pod) int {
		return -cmp.Compare(ordinal(v.set.Name, a.Name), ordinal(v.set.Name, b.Name))
	})
	v.count(&p)
	if v.set.DeletionTimestamp == nil && v.grow(&p, byOrdinal, first, n) && v.shrink(&p, condemned) {
		v.roll(&p, byOrdinal, first, n)
	}
	return p
}

func (v *view) ordered() bool {
	return v.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// grow makes the pods that are not there, in order one after the other if asked to; it
// says whether the next kind of step may be taken.
func (v *view) grow(p *plan, pods map[int]*corev1.Pod, first, n int) bool {
	for o := first; o < first+n; o++ {
		pod := pods[o]
		switch {
		case pod == nil:
			p.create = append(p.create, o)
		case pod.DeletionTimestamp != nil:
		case loop.Ended(pod):
			p.delete, p.ended = append(p.delete, pod), append(p.ended, pod)
		case v.healthy(pod):
			continue
		}
		if v.ordered() {
			return false
		}
		if len(p.create) >= burst {
			return false
		}
	}
	return len(p.create) == 0 || !v.ordered()
}

// shrink deletes the pods above the wish from the highest on. In order, a pod that is not
// healthy waits for those below it that are not either: the trouble is looked into first.
func (v *view) shrink(p *plan, condemned []*corev1.Pod) bool {
	ill := func(pod *corev1.Pod) bool { return !v.healthy(pod) }
	for i, pod := range condemned {
		if v.ordered() && ill(pod) && slices.ContainsFunc(condemned[i+1:], ill) {
			return false
		}
		if pod.DeletionTimestamp == nil {
			p.delete, p.drop = append(p.delete, pod), append(p.drop, pod)
		}
		if v.ordered() {
			return false
		}
	}
	return true
}

// roll replaces pods of other revisions from the highest on, as many at once as may be
// unavailable.
func (v *view) roll(p *plan, pods map[int]*corev1.Pod, first, n int) {
	s := v.set.Spec.UpdateStrategy
	if s.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return
	}
	room := 1
	if s.RollingUpdate != nil && s.RollingUpdate.MaxUnavailable != nil {
		if m, err := intstr.GetScaledValueFromIntOrPercent(s.RollingUpdate.MaxUnavailable, n, true); err == nil {
			room = max(m, 1)
		}
	}
	for _, pod := range pods {
		if !v.healthy(pod) {
			room--
		}
	}
	for o := first + n - 1; o >= first+v.partition(); o-- {
		pod := pods[o]
		if pod == nil || pod.DeletionTimestamp != nil {
			continue
		}
		if revisionOf(pod) == v.update {
			continue
		}
		if !v.healthy(pod) { // replacing it makes nothing less available
			p.delete = append(p.delete, pod)
		} else if room > 0 {
			p.delete = append(p.delete, pod)
			room--
		}
		if room <= 0 {
			return
		}
	}
}

// count fills in the status.
func (v *view) count(p *plan) {
	p.status = *v.set.Status.DeepCopy()
	s := &p.status
	s.ObservedGeneration, s.CurrentRevision, s.UpdateRevision = v.set.Generation, v.current, v.update
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas = 0, 0, 0, 0, 0
	for _, pod := range v.pods {
		s.Replicas++
		if _, ready := loop.ReadySince(pod); ready && pod.Status.Phase == corev1.PodRunning {
			s.ReadyReplicas++
		}
		ok, wait := v.available(pod)
		if ok {
			s.AvailableReplicas++
		}
		if wait > 0 && (p.wait == 0 || wait < p.wait) {
			p.wait = wait
		}
		if pod.DeletionTimestamp != nil {
			continue
		}
		if revisionOf(pod) == v.current {
			s.CurrentReplicas++
		}
		if revisionOf(pod) == v.update {
			s.UpdatedReplicas++
		}
	}
	if v.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		s.UpdatedReplicas == s.Replicas && s.ReadyReplicas == s.Replicas && v.set.Spec.Replicas != nil && s.Replicas == *v.set.Spec.Replicas {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
}
