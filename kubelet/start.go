package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/podspec"
)

// starting is one container about to run.
type starting struct {
	*plan.Start
	pod     *corev1.Pod
	sandbox string
	config  *runtimeapi.PodSandboxConfig
	ips     []string
	image   string

	features corev1.NodeRuntimeHandlerFeatures // known where a mount asks for them
}

// start makes and starts one container, then runs its post-start hook.
func (w *worker) start(ctx context.Context, s *starting) error {
	parts, err := w.parts(ctx, s)
	if err != nil {
		return reasoned{"CreateContainerConfigError", err}
	}
	if err := os.MkdirAll(filepath.Join(podspec.LogDir(w.k.cfg.LogRoot, s.pod), s.Container.Name), 0o755); err != nil {
		return reasoned{"CreateContainerError", fmt.Errorf("make log folder: %w", err)}
	}
	made, err := w.k.cfg.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: s.sandbox, Config: podspec.Container(s.pod, s.Container, *parts), SandboxConfig: s.config})
	if err != nil {
		return reasoned{"CreateContainerError", err}
	}
	w.k.event(s.pod, s.Container.Name, corev1.EventTypeNormal, "Created", "Container created")
	id := made.ContainerId
	hook := s.Container.Lifecycle != nil && s.Container.Lifecycle.PostStart != nil
	w.mark(s, id, hook)
	if _, err := w.k.cfg.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		return reasoned{"RunContainerError", err}
	}
	w.k.event(s.pod, s.Container.Name, corev1.EventTypeNormal, "Started", "Container started")
	w.look()
	if hook {
		if err := w.postStart(ctx, s, id); err != nil {
			return err
		}
	}
	w.prune(ctx, s.Container.Name)
	return nil
}

// mark notes the backoff that this start brings, and that a hook is due.
func (w *worker) mark(s *starting, id string, hook bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size.record != nil {
		w.size.record.Actuated[w.fullID(id)] = s.Container.Resources
	}
	if s.Backoff.Delay > 0 {
		w.backoffs[s.Container.Name] = s.Backoff
	}
	if hook {
		w.hooking[id] = true
	}
}

// parts gathers what the container's configuration is made from.
func (w *worker) parts(ctx context.Context, s *starting) (*podspec.Parts, error) {
	user, err := w.imageUser(ctx, s)
	if err != nil {
		return nil, err
	}
	security, err := podspec.Security(s.pod, s.Container, w.k.cfg.Root, user)
	if err != nil {
		return nil, err
	}
	services, err := w.servicesFor(s.pod)
	if err != nil {
		return nil, err
	}
	env, err := podspec.Env(ctx, s.pod, s.Container, &podspec.Variables{Objects: w.k.cfg.Objects, Services: services, PodIPs: s.ips, Node: &w.k.place})
	if err != nil {
		return nil, err
	}
	if wantsFeatures(s.Container) {
		handler, err := w.handler(ctx, s.pod)
		if err != nil {
			return nil, err
		}
		s.features = w.k.node.Features(handler)
	}
	mounts, file, err := w.mounts(s, env)
	if err != nil {
		return nil, err
	}
	p := &podspec.Parts{Attempt: s.Attempt, ImageRef: s.image, Env: env, Mounts: mounts, Security: security, Memory: w.k.place.Memory, TerminationFile: file}
	if s.Target != "" {
		w.mu.Lock()
		if t := w.observed.Newest(s.Target); t != nil {
			p.Target = t.ID
		}
		w.mu.Unlock()
	}
	return p, nil
}

func wantsFeatures(c *corev1.Container) bool {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].RecursiveReadOnly != nil {
			return true
		}
	}
	return false
}

// imageUser asks for the image's user where the pod forbids root.
func (w *worker) imageUser(ctx context.Context, s *starting) (*podspec.ImageUser, error) {
	pod, own := s.pod.Spec.SecurityContext, s.Container.SecurityContext
	if (pod == nil || pod.RunAsNonRoot == nil) && (own == nil || own.RunAsNonRoot == nil) {
		return nil, nil
	}
	got, err := w.k.cfg.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: s.image}})
	if err != nil {
		return nil, fmt.Errorf("ask for the image's user: %w", err)
	}
	if got.Image == nil {
		return nil, fmt.Errorf("image %s is not present", s.image)
	}
	return podspec.User(got.Image.Uid, got.Image.Username), nil
}

func (w *worker) servicesFor(pod *corev1.Pod) ([]*corev1.Service, error) {
	out, err := w.k.services.Services(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	if pod.Namespace != metav1.NamespaceDefault {
		if master, err := w.k.services.Services(metav1.NamespaceDefault).Get("kubernetes"); err == nil {
			out = append([]*corev1.Service{master}, out...)
		}
	}
	return out, nil
}

// prune removes all ended runs of a container but the newest.
func (w *worker) prune(ctx context.Context, name string) {
	w.mu.Lock()
	var old []string
	kept := false
	for i := range w.observed.Containers {
		c := &w.observed.Containers[i]
		if c.Name != name || c.State != plan.Exited {
			continue
		}
		if kept {
			old = append(old, c.ID)
		}
		kept = true
	}
	w.mu.Unlock()
	for _, id := range old {
		if _, err := w.k.cfg.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
			w.k.log.Warn("remove ended container", "pod", w.name(), "container", id, "error", err)
		}
	}
}

// terminationFile makes the file that a container leaves its last words in.
func (w *worker) terminationFile(s *starting) (string, error) {
	dir := filepath.Join(w.dir(), "containers", s.Container.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make container folder: %w", err)
	}
	file := filepath.Join(dir, strconv.FormatUint(uint64(s.Attempt), 10))
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return "", fmt.Errorf("make termination log: %w", err)
	}
	if err := f.Chmod(0o666); err != nil {
		return "", fmt.Errorf("open termination log to all: %w", err)
	}
	return file, f.Close()
}

// direct asks the API server for objects each time.
type direct struct{ client kubernetes.Interface }

func (d direct) GetConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return d.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (d direct) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return d.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}
