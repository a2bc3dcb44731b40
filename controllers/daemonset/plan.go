package daemonset

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"k8s.io/klog/v2"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/proa-dev/proa/controllers/loop"
)

// view is all that one decision looks at.
type view struct {
	ds    *appsv1.DaemonSet
	hash  string // of the present template's revision
	nodes []*corev1.Node
	pods  map[string][]*corev1.Pod // by the node they are on or meant for
	now   time.Time
}

// plan is what to do: the nodes to make a pod for and the pods to delete. ended are those
// among them that came to an end by themselves.
type plan struct {
	create []string
	delete []*corev1.Pod
	ended  []*corev1.Pod
	desired, current, misscheduled,
	ready, available, updated int32
	wait time.Duration // until the next ready pod counts as available; 0: none
}

// suits says whether a node should get a pod of the set, and whether one that is there
// may stay: a taint NoSchedule keeps new ones away only.
func suits(ds *appsv1.DaemonSet, node *corev1.Node) (should, stay bool) {
	pod := podFor(ds, "", node.Name)
	if name := ds.Spec.Template.Spec.NodeName; name != "" && name != node.Name {
		return false, false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return false, false
	}
	untolerated := func(effects ...corev1.TaintEffect) bool {
		_, found := corehelpers.FindMatchingUntoleratedTaint(klog.Logger{}, node.Spec.Taints, pod.Spec.Tolerations,
			func(t *corev1.Taint) bool { return slices.Contains(effects, t.Effect) }, true)
		return found
	}
	if untolerated(corev1.TaintEffectNoExecute) {
		return false, false
	}
	return !untolerated(corev1.TaintEffectNoSchedule), true
}

// podFor is the pod of the set for a node.
func podFor(ds *appsv1.DaemonSet, hash, node string) *corev1.Pod {
	pod := loop.PodFromTemplate(&ds.Spec.Template, ds, kind)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	if n := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; n != "" {
		pod.Labels[templateGenerationLabel] = n
	}
	tolerate(&pod.Spec)
	pin(&pod.Spec, node)
	return pod
}

const templateGenerationLabel = "pod-template-generation"

// tolerate lets daemons run where others may not: on nodes with troubles, which they may
// be there to mend.
func tolerate(spec *corev1.PodSpec) {
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		for _, have := range spec.Tolerations {
			if have.MatchToleration(&t) {
				return
			}
		}
		spec.Tolerations = append(spec.Tolerations, t)
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
}

// pin lets the scheduler place the pod on one node only. A term of the template that
// names a node is replaced; its other terms stay.
func pin(spec *corev1.PodSpec, node string) {
	field := corev1.NodeSelectorRequirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	required := &spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if *required == nil || len((*required).NodeSelectorTerms) == 0 {
		*required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}
	}
	for i := range (*required).NodeSelectorTerms {
		(*required).NodeSelectorTerms[i].MatchFields = []corev1.NodeSelectorRequirement{field}
	}
}

// nodeOf is the node a pod is on or, not scheduled yet, meant for.
func nodeOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// decide is the pure core: what is there, what is wished, what to do.
func decide(v view) plan {
	var p plan
	surge, below := v.room()
	for _, node := range v.nodes {
		should, stay := suits(v.ds, node)
		v.place(&p, node.Name, should, stay, surge)
		v.count(&p, node.Name, should)
	}
	v.strays(&p)
	if v.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if surge > 0 {
			v.rollAbove(&p, surge)
		} else {
			v.rollBelow(&p, below)
		}
	}
	return p
}

// room is how many nodes may have a pod too many and how many may have none available.
func (v *view) room() (surge, below int) {
	r := v.ds.Spec.UpdateStrategy.RollingUpdate
	if v.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || r == nil {
		return 0, 0
	}
	n := 0
	for _, node := range v.nodes {
		if should, _ := suits(v.ds, node); should {
			n++
		}
	}
	scaled := func(a *intstr.IntOrString) int {
		part, err := intstr.GetScaledValueFromIntOrPercent(a, n, true)
		if err != nil {
			return 0 // none, or refused by validation
		}
		return part
	}
	surge, below = scaled(r.MaxSurge), scaled(r.MaxUnavailable)
	if surge == 0 && below == 0 {
		below = 1
	}
	return surge, below
}

func (v *view) current(pod *corev1.Pod) bool {
	if pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == v.hash {
		return true
	}
	n := v.ds.Annotations[appsv1.DeprecatedTemplateGeneration]
	return pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == "" && n != "" && pod.Labels[templateGenerationLabel] == n
}

// available says whether a pod is ready for long enough; wait is how long it still must be.
func (v *view) available(pod *corev1.Pod) (ok bool, wait time.Duration) {
	since, ready := loop.ReadySince(pod)
	if !ready || pod.DeletionTimestamp != nil {
		return false, 0
	}
	wait = since.Add(time.Duration(v.ds.Spec.MinReadySeconds) * time.Second).Sub(v.now)
	return wait <= 0, max(wait, 0)
}

// place gives a node its one pod: makes it, removes what ended or is too many.
func (v *view) place(p *plan, node string, should, stay bool, surge int) {
	pods := v.pods[node]
	switch {
	case should && len(pods) == 0:
		p.create = append(p.create, node)
	case !stay:
		for _, pod := range pods {
			if pod.DeletionTimestamp == nil {
				p.delete = append(p.delete, pod)
			}
		}
	default:
		v.keepOne(p, pods, should, surge)
	}
}

func (v *view) keepOne(p *plan, pods []*corev1.Pod, should bool, surge int) {
	var live []*corev1.Pod
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case loop.Ended(pod):
			p.delete, p.ended = append(p.delete, pod), append(p.ended, pod)
		default:
			live = append(live, pod)
		}
	}
	slices.SortFunc(live, older)
	if surge == 0 {
		p.delete = append(p.delete, tail(live)...)
		return
	}
	var now, old []*corev1.Pod
	for _, pod := range live {
		if v.current(pod) {
			now = append(now, pod)
		} else {
			old = append(old, pod)
		}
	}
	p.delete = append(append(p.delete, tail(now)...), tail(old)...)
	if len(now) > 0 || len(old) == 0 {
		return
	}
	// A surging roll-out does not wait for an old pod that is going to be gone.
	if should && slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil && v.current(pod) }) {
		p.create = append(p.create, nodeOf(old[0]))
	}
}

func tail(pods []*corev1.Pod) []*corev1.Pod {
	if len(pods) < 2 {
		return nil
	}
	return pods[1:]
}

func older(a, b *corev1.Pod) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// count adds a node to the status; of several pods there the oldest counts.
func (v *view) count(p *plan, node string, should bool) {
	pods := v.pods[node]
	if !should {
		if len(pods) > 0 {
			p.misscheduled++
		}
		return
	}
	p.desired++
	if len(pods) == 0 {
		return
	}
	p.current++
	sorted := slices.SortedFunc(slices.Values(pods), older)
	pod := sorted[0]
	if _, ready := loop.ReadySince(pod); ready {
		p.ready++
		ok, wait := v.available(pod)
		if ok {
			p.available++
		}
		p.soonest(wait)
	}
	if v.current(pod) {
		p.updated++
	}
}

func (p *plan) soonest(wait time.Duration) {
	if wait > 0 && (p.wait == 0 || wait < p.wait) {
		p.wait = wait
	}
}

// strays are pods for nodes that are no more and that no scheduler has placed.
func (v *view) strays(p *plan) {
	known := map[string]bool{}
	for _, n := range v.nodes {
		known[n.Name] = true
	}
	for _, node := range slices.Sorted(maps.Keys(v.pods)) {
		for _, pod := range v.pods[node] {
			if !known[node] && pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil {
				p.delete = append(p.delete, pod)
			}
		}
	}
}

// pair finds the live pods of a node by template; ended ones are none.
func (v *view) pair(pods []*corev1.Pod) (now, old *corev1.Pod) {
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil || loop.Ended(pod):
		case v.current(pod):
			now = pod
		default:
			old = pod
		}
	}
	return now, old
}

// rollBelow replaces old pods by deleting them, those that are of no use at once, of the
// others as many as may be missing.
func (v *view) rollBelow(p *plan, below int) {
	missing := 0
	var broken, candidates []*corev1.Pod
	for _, node := range v.nodes {
		if should, _ := suits(v.ds, node); !should {
			continue
		}
		now, old := v.pair(v.pods[node.Name])
		switch {
		case now == nil && old == nil:
			missing++
		case now != nil:
			if ok, _ := v.available(now); !ok {
				missing++
			}
		default:
			if ok, _ := v.available(old); !ok {
				missing++
				broken = append(broken, old)
			} else {
				candidates = append(candidates, old)
			}
		}
	}
	free := min(max(below-missing, 0), len(candidates))
	p.more(append(broken, candidates[:free]...))
}

// rollAbove makes the new pod beside the old one, which goes once the new is available.
func (v *view) rollAbove(p *plan, surge int) {
	above := 0
	var broken, candidates []string
	for _, node := range v.nodes {
		if should, _ := suits(v.ds, node); !should {
			continue
		}
		now, old := v.pair(v.pods[node.Name])
		if old == nil {
			continue
		}
		if now != nil {
			if ok, _ := v.available(now); ok {
				p.more([]*corev1.Pod{old})
			} else {
				above++
			}
			continue
		}
		if ok, _ := v.available(old); ok {
			candidates = append(candidates, node.Name)
		} else {
			broken = append(broken, node.Name)
		}
	}
	free := min(max(surge-above, 0), len(candidates))
	for _, node := range append(broken, candidates[:free]...) {
		if !slices.Contains(p.create, node) {
			p.create = append(p.create, node)
		}
	}
}

// more adds pods to delete that are not yet among them.
func (p *plan) more(pods []*corev1.Pod) {
	for _, pod := range pods {
		if !slices.Contains(p.delete, pod) {
			p.delete = append(p.delete, pod)
		}
	}
}

// status is what the set's status says after a plan.
func (p *plan) status(ds *appsv1.DaemonSet) appsv1.DaemonSetStatus {
	s := *ds.Status.DeepCopy()
	s.ObservedGeneration = ds.Generation
	s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberMisscheduled = p.desired, p.current, p.misscheduled
	s.NumberReady, s.UpdatedNumberScheduled = p.ready, p.updated
	s.NumberAvailable, s.NumberUnavailable = p.available, p.desired-p.available
	return s
}
