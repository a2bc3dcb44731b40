package kubelet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/kubelet/podspec"
)

// adopt takes over what an earlier run of the agent left: pods that the API server no
// longer has are ended, folders and cgroups without a pod are removed. Pods that it has
// were adopted by their workers already, which found them running.
func (k *Kubelet) adopt(ctx context.Context) {
	refs, err := k.reader.Pods(ctx)
	for err != nil && ctx.Err() == nil {
		k.log.Warn("list what runs", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
		refs, err = k.reader.Pods(ctx)
	}
	k.mu.Lock()
	for _, ref := range refs {
		if k.workers[ref.UID] == nil {
			k.log.Info("ending a pod that no longer exists", "pod", ref.Namespace+"/"+ref.Name)
			w := k.addOrphan(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: ref.Name, UID: ref.UID}})
			w.poke()
		}
	}
	k.mu.Unlock()
	k.sweep(ctx)
}

// addOrphan makes the worker of a pod known from the runtime alone; with mu held.
func (k *Kubelet) addOrphan(pod *corev1.Pod) *worker {
	w := newWorker(k, pod)
	w.orphan, w.gone = true, true
	k.start(w)
	return w
}

// sweep removes folders and cgroups of pods that neither the API server nor the runtime has.
func (k *Kubelet) sweep(ctx context.Context) {
	found := map[types.UID]bool{}
	entries, err := os.ReadDir(filepath.Join(k.cfg.Root, "pods"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.Warn("look for left folders", "error", err)
	}
	for _, e := range entries {
		found[types.UID(e.Name())] = true
	}
	if k.groups != nil {
		for _, uid := range k.groups.Pods() {
			found[uid] = true
		}
	}
	for uid := range found {
		if k.worker(uid) != nil {
			continue
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}}
		if err := k.release(ctx, pod); err != nil {
			k.log.Warn("remove what a pod left", "uid", uid, "error", err)
		}
	}
	k.sweepLogs()
}

func (k *Kubelet) sweepLogs() {
	entries, err := os.ReadDir(k.cfg.LogRoot)
	if err != nil {
		return // no logs yet
	}
	known := map[string]bool{}
	for _, w := range k.all() {
		w.mu.Lock()
		known[podspec.LogDir(k.cfg.LogRoot, w.pod)] = true
		w.mu.Unlock()
	}
	for _, e := range entries {
		dir := filepath.Join(k.cfg.LogRoot, e.Name())
		if known[dir] || !k.ownsLogs {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			k.log.Warn("remove left logs", "folder", dir, "error", err)
		}
	}
}

// Allocatable is what pods may have of the machine.
func (k *Kubelet) Allocatable() corev1.ResourceList { return k.node.Allocatable() }

// Pods lists the pods of this node.
func (k *Kubelet) Pods() []*corev1.Pod {
	var out []*corev1.Pod
	for _, w := range k.all() {
		w.mu.Lock()
		if !w.orphan {
			out = append(out, w.pod)
		}
		w.mu.Unlock()
	}
	return out
}

// Pod finds a pod of this node by name.
func (k *Kubelet) Pod(namespace, name string) (*corev1.Pod, bool) {
	for _, p := range k.Pods() {
		if p.Namespace == namespace && p.Name == name {
			return p, true
		}
	}
	return nil, false
}

// ContainerID answers the runtime's id of a pod's newest container of that name, or of the one before.
func (k *Kubelet) ContainerID(uid types.UID, name string, previous bool) (string, bool) {
	w := k.worker(uid)
	if w == nil {
		return "", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.observed.Newest(name)
	if previous {
		c = w.observed.Previous(name)
	}
	if c == nil {
		return "", false
	}
	return c.ID, true
}

// SandboxID answers the runtime's id of a pod's sandbox.
func (k *Kubelet) SandboxID(uid types.UID) (string, bool) {
	w := k.worker(uid)
	if w == nil {
		return "", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.observed.Sandbox(); s != nil {
		return s.ID, true
	}
	return "", false
}

// LogPath answers the log file of a pod's newest container of that name, or of the one before.
func (k *Kubelet) LogPath(uid types.UID, name string, previous bool) (string, bool) {
	w := k.worker(uid)
	if w == nil {
		return "", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.observed.Newest(name)
	if previous {
		c = w.observed.Previous(name)
	}
	if c == nil {
		return "", false
	}
	return filepath.Join(podspec.LogDir(k.cfg.LogRoot, w.pod), name, strconv.Itoa(int(c.Attempt))+".log"), true
}
