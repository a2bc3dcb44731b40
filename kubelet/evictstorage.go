package kubelet

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/podstatus"
	"github.com/proa-dev/proa/kubelet/storage"
)

// measureStorage is how often pods with limits on their storage are measured, as in Kubernetes.
const measureStorage = 10 * time.Second

// limitStorage evicts pods that keep more on the node's disk than they may, until ctx ends.
func (k *Kubelet) limitStorage(ctx context.Context) error {
	tick := time.NewTicker(measureStorage)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			k.judgeStorage(ctx)
		}
	}
}

func (k *Kubelet) judgeStorage(ctx context.Context) {
	var layers map[types.UID]map[string]int64 // asked for once, and only if somebody has a limit
	for _, w := range k.all() {
		pod, counts := w.counted()
		if !counts || !storage.Limited(pod) {
			continue
		}
		if layers == nil {
			layers = k.layers(ctx)
		}
		use, err := w.storageUse(ctx, pod, layers[pod.UID])
		if err != nil {
			k.log.Warn("measure what a pod keeps on disk", "pod", w.name(), "error", err)
		} else if why := storage.Exceeded(pod, use); why != "" {
			k.event(pod, "", corev1.EventTypeWarning, "Evicted", why)
			grace := int64(1)
			w.end(&podstatus.Final{Reason: "Evicted", Message: why}, &grace)
		}
	}
}

// storageUse measures a pod; layers are the bytes that its containers wrote into theirs.
func (w *worker) storageUse(ctx context.Context, pod *corev1.Pod, layers map[string]int64) (*storage.Use, error) {
	use := &storage.Use{Volumes: map[string]int64{}, Containers: map[string]int64{}}
	w.mu.Lock()
	made := w.volumes // replaced as a whole when it changes
	w.mu.Unlock()
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !storage.OnDisk(v) || made[v.Name] == "" {
			continue
		}
		n, err := storage.Measure(ctx, made[v.Name])
		if err != nil {
			return nil, err
		}
		use.Volumes[v.Name] = n
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			n, err := storage.Measure(ctx, filepath.Join(podspec.LogDir(w.k.cfg.LogRoot, pod), list[i].Name))
			if err != nil {
				return nil, err
			}
			use.Containers[list[i].Name] = n + layers[list[i].Name]
		}
	}
	hosts, err := os.Lstat(w.ownHosts())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		use.Other = hosts.Size()
	}
	return use, nil
}

// layers asks the runtime what containers wrote into their own layers, in bytes.
func (k *Kubelet) layers(ctx context.Context) map[types.UID]map[string]int64 {
	out := map[types.UID]map[string]int64{}
	got, err := k.cfg.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		k.log.Warn("ask what containers wrote", "error", err)
		return out
	}
	for _, s := range got.Stats {
		labels := s.GetAttributes().GetLabels()
		uid := types.UID(labels[cri.LabelPodUID])
		if out[uid] == nil {
			out[uid] = map[string]int64{}
		}
		out[uid][labels[cri.LabelContainer]] += int64(s.GetWritableLayer().GetUsedBytes().GetValue())
	}
	return out
}
