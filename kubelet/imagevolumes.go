package kubelet

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/podspec"
)

// imageVolumes are the images that a pod mounts, by the name of their volume: gotten beside
// those of its containers, and again with each sandbox.
type imageVolumes struct {
	refs map[string]string
	errs map[string]error
}

// pullVolumes gets the images of a pod's image volumes, all at the same time.
func (w *worker) pullVolumes(ctx context.Context, pod *corev1.Pod, fresh bool, cfg *runtimeapi.PodSandboxConfig) *imageVolumes {
	w.mu.Lock()
	have := w.images
	w.mu.Unlock()
	out := &imageVolumes{refs: map[string]string{}, errs: map[string]error{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Image == nil {
			continue
		}
		if ref, ok := have[v.Name]; ok && !fresh {
			out.refs[v.Name] = ref
			continue
		}
		all.Go(func() {
			ref, err := v.Image.Reference, error(nil)
			if w.k.cfg.Puller != nil {
				as := &corev1.Container{Image: ref, ImagePullPolicy: v.Image.PullPolicy}
				if ref, err = w.k.cfg.Puller.Ensure(ctx, pod, as, cfg); err == nil {
					ref, err = w.nameOf(ctx, ref)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.errs[v.Name] = err
			} else {
				out.refs[v.Name] = ref
			}
		})
	}
	all.Wait()
	w.mu.Lock()
	w.images = out.refs
	w.mu.Unlock()
	return out
}

// nameOf is a name that the runtime knows an image by: images from archives have none but
// their tags, so its id is the last resort.
func (w *worker) nameOf(ctx context.Context, id string) (string, error) {
	got, err := w.k.cfg.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: id}})
	if err != nil {
		return "", fmt.Errorf("ask for the names of image %s: %w", id, err)
	}
	for _, names := range [][]string{got.GetImage().GetRepoDigests(), got.GetImage().GetRepoTags()} {
		if len(names) > 0 {
			return names[0], nil
		}
	}
	return id, nil
}

// missing tells what keeps a container from mounting its image volumes.
func (v *imageVolumes) missing(c *corev1.Container) error {
	for i := range c.VolumeMounts {
		if err := v.errs[c.VolumeMounts[i].Name]; err != nil {
			return err
		}
	}
	return nil
}

// imageMount is a container's view of an image; nil: the volume is no image.
func (w *worker) imageMount(pod *corev1.Pod, m *corev1.VolumeMount, env []*runtimeapi.KeyValue) (*runtimeapi.Mount, error) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Name != m.Name || v.Image == nil {
			continue
		}
		w.mu.Lock()
		ref := w.images[v.Name]
		w.mu.Unlock()
		if ref == "" {
			return nil, fmt.Errorf("the image of volume %q is not present", v.Name)
		}
		sub, err := podspec.SubPath(m, env)
		if err != nil {
			return nil, err
		}
		return &runtimeapi.Mount{ContainerPath: target(m), Readonly: true, SelinuxRelabel: true, ImageSubPath: sub, Propagation: podspec.Propagation(m),
			Image: &runtimeapi.ImageSpec{Image: ref, UserSpecifiedImage: v.Image.Reference}}, nil
	}
	return nil, nil
}
