package kubelet

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/logs"
	"github.com/proa-dev/proa/kubelet/plan"
)

// rotator keeps the logs of running containers small.
func (k *Kubelet) rotator() (*logs.Rotator, error) {
	return logs.NewRotator(logs.RotateConfig{Running: k.runningLogs, Log: k.log, Reopen: func(ctx context.Context, id string) error {
		_, err := k.cfg.Runtime.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
		return err
	}})
}

func (k *Kubelet) runningLogs() []logs.File {
	var out []logs.File
	for _, w := range k.all() {
		w.mu.Lock()
		if w.observed != nil {
			for i := range w.observed.Containers {
				if c := &w.observed.Containers[i]; c.State == plan.Running && c.LogPath != "" {
					out = append(out, logs.File{ContainerID: c.ID, Path: c.LogPath})
				}
			}
		}
		w.mu.Unlock()
	}
	return out
}
