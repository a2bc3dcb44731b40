package kubelet

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/resize"
)

// resizing is how far a change of a running pod's resources has come; guarded by the worker's mu.
type resizing struct {
	record   *resize.Record
	saved    bool                 // the record is on disk
	pending  *corev1.PodCondition // the node has not promised what is wished for
	since    time.Time            // of pending
	progress *corev1.PodCondition // what was promised is not in force yet
	retry    time.Time            // after a change that did not work
	job      *job                 // of the loop alone
}

func (w *worker) resourcesFile() string { return filepath.Join(w.dir(), "resources.json") }

// allocated answers the pod with the resources that the node has promised it, after it has
// tried to promise what the spec asks for.
func (w *worker) allocated(pod *corev1.Pod) *corev1.Pod {
	w.k.allocation.Lock()
	defer w.k.allocation.Unlock()
	return w.allocatedLocked(pod)
}

// allocatedLocked is allocated with the node's allocation lock held.
func (w *worker) allocatedLocked(pod *corev1.Pod) *corev1.Pod {
	w.mu.Lock()
	if w.size.record == nil {
		w.size.record, w.size.saved = w.readRecord(pod)
	}
	record, old := w.size.record, w.size.pending
	w.mu.Unlock()
	want := resize.Of(pod)
	if record.Allocated.Equal(want) {
		w.setPending(pod, "", "")
		return pod
	}
	if pod.DeletionTimestamp != nil || terminal(pod) {
		return record.Allocated.On(pod)
	}
	reason, message := w.k.refuseResize(pod)
	w.setPending(pod, reason, message)
	if reason != "" {
		if old == nil || old.Reason != reason {
			w.k.event(pod, "", corev1.EventTypeWarning, "Resize"+reason, resizeMessage(pod, "Pod resize "+reason, message))
		}
		return record.Allocated.On(pod)
	}
	w.promise(pod, want)
	return pod
}

// promise gives the pod what its spec asks for; the containers follow.
func (w *worker) promise(pod *corev1.Pod, want resize.Resources) {
	w.mu.Lock()
	w.size.record.Allocated = want
	w.size.progress = resizeCondition(corev1.PodResizeInProgress, pod.Generation, "", "")
	w.size.retry = time.Time{}
	err := w.saveRecord()
	w.mu.Unlock()
	if err != nil {
		w.k.log.Warn("keep the pod's resources", "pod", w.name(), "error", err)
	}
	w.k.event(pod, "", corev1.EventTypeNormal, "ResizeStarted", resizeMessage(pod, "Pod resize started", ""))
}

// readRecord finds what the node promised before: on disk, else in the status of a pod that
// has run, else in the spec.
func (w *worker) readRecord(pod *corev1.Pod) (*resize.Record, bool) {
	record, err := resize.Load(w.resourcesFile())
	if err != nil {
		w.k.log.Warn("read the pod's resources", "uid", w.uid, "error", err)
	}
	if record != nil {
		return record, true
	}
	return resize.FromStatus(pod), false
}

// saveRecord writes the record; with mu held.
func (w *worker) saveRecord() error {
	for id := range w.size.record.Actuated {
		if w.observed != nil && w.observed.ByID(w.bareID(id)) == nil {
			delete(w.size.record.Actuated, id)
		}
	}
	if err := w.size.record.Save(w.resourcesFile()); err != nil {
		return err
	}
	w.size.saved = true
	return nil
}

func (w *worker) fullID(id string) string { return w.k.runtime + "://" + id }

func (w *worker) bareID(id string) string {
	if n := len(w.k.runtime) + len("://"); len(id) > n {
		return id[n:]
	}
	return id
}

func resizeCondition(t corev1.PodConditionType, generation int64, reason, message string) *corev1.PodCondition {
	return &corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation}
}

func (w *worker) setPending(pod *corev1.Pod, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if reason == "" {
		w.size.pending, w.size.since = nil, time.Time{}
		return
	}
	w.size.pending = resizeCondition(corev1.PodResizePending, pod.Generation, reason, message)
	if w.size.since.IsZero() {
		w.size.since = time.Now()
	}
}

// refuseResize tells why the node cannot give a pod what its spec asks for now.
func (k *Kubelet) refuseResize(pod *corev1.Pod) (reason, message string) {
	have := k.node.Allocatable()
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		want, most := resource.PodRequests(pod, resource.PodResourcesOptions{})[name], have[name]
		if want.Cmp(most) > 0 {
			w, m := amounts(name, want, most)
			return corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, w, m)
		}
	}
	if !k.counted.Load() {
		return corev1.PodReasonDeferred, "the node does not know all of its pods yet"
	}
	used, _, _ := k.used(pod)
	only := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		only[name] = resource.PodRequests(pod, resource.PodResourcesOptions{})[name]
	}
	if _, message := short(only, used, have); message != "" {
		return corev1.PodReasonDeferred, message
	}
	return "", ""
}

// retryResizes tries again to promise what pods wait for, the most important first: something
// on the node has become free.
func (k *Kubelet) retryResizes() {
	type waiting struct {
		w     *worker
		pod   *corev1.Pod
		since time.Time
	}
	var list []waiting
	for _, w := range k.all() {
		w.mu.Lock()
		if p := w.size.pending; p != nil && p.Reason == corev1.PodReasonDeferred {
			list = append(list, waiting{w, w.pod, w.size.since})
		}
		w.mu.Unlock()
	}
	if len(list) == 0 {
		return
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := evictionRank(list[i].pod), evictionRank(list[j].pod)
		if a[1] != b[1] {
			return a[1] > b[1]
		}
		if a[0] != b[0] {
			return a[0] > b[0]
		}
		return list[i].since.Before(list[j].since)
	})
	k.allocation.Lock()
	defer k.allocation.Unlock()
	for _, l := range list {
		l.w.allocatedLocked(l.pod)
		l.w.poke()
	}
}

// resizeMessage is the text of an event, which lists the resources as they are asked for.
func resizeMessage(pod *corev1.Pod, what, problem string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	}
	var all struct {
		InitContainers []container `json:"initContainers,omitempty"`
		Containers     []container `json:"containers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}
	all.Generation, all.Error = pod.Generation, problem
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		all.InitContainers = append(all.InitContainers, container{c.Name, c.Resources})
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		all.Containers = append(all.Containers, container{c.Name, c.Resources})
	}
	text, err := json.Marshal(&all)
	if err != nil {
		return what
	}
	return what + ": " + string(text)
}

// evictionRank orders pods by class, then priority.
func evictionRank(pod *corev1.Pod) [2]int64 {
	class := int64(2)
	switch podspec.Class(pod) {
	case corev1.PodQOSBestEffort:
		class = 0
	case corev1.PodQOSBurstable:
		class = 1
	}
	priority := int64(0)
	if pod.Spec.Priority != nil {
		priority = int64(*pod.Spec.Priority)
	}
	return [2]int64{class, priority}
}
