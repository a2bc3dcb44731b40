package kubelet

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/probe"
)

// postStart runs a container's hook; a container whose hook fails is ended.
func (w *worker) postStart(ctx context.Context, s *starting, id string) error {
	err := w.hook(ctx, s.Container.Lifecycle.PostStart, s.Container, id, firstOf(s.ips))
	w.mu.Lock()
	delete(w.hooking, id)
	w.mu.Unlock()
	w.look()
	if err == nil || ctx.Err() != nil {
		return nil
	}
	w.k.event(s.pod, s.Container.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	w.condemn(id, "FailedPostStartHook")
	w.k.log.Info("post-start hook failed", "pod", w.name(), "container", s.Container.Name, "error", err)
	return nil
}

// hook runs one lifecycle handler.
func (w *worker) hook(ctx context.Context, h *corev1.LifecycleHandler, c *corev1.Container, id, ip string) error {
	switch {
	case h.Exec != nil:
		got, err := w.k.cfg.Runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: h.Exec.Command})
		if err != nil {
			return err
		}
		if got.ExitCode != 0 {
			return fmt.Errorf("command exited with %d: %.200s", got.ExitCode, got.Stderr)
		}
		return nil
	case h.HTTPGet != nil:
		return httpHook(ctx, h.HTTPGet, c, ip)
	case h.Sleep != nil:
		t := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		return nil
	}
	return nil
}

func httpHook(ctx context.Context, get *corev1.HTTPGetAction, c *corev1.Container, ip string) error {
	req, err := probe.Request(ctx, get, c, ip, "kube-lifecycle/1.37")
	if err != nil {
		return err
	}
	client := probe.Client()
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	const most = 10 << 10
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, most)); err != nil {
		return err
	}
	return nil
}
