// Package images sees to it that the images of containers are on this node, and clears old ones away.
//
// The one idea: Ensure answers at once what the pull policy allows, pulls each image once however
// many pods wait for it, and remembers failures per pod and image, so that a registry in trouble is
// asked ever more rarely. The runtime holds the images; nothing is kept here but back-offs and last uses.
//
// Called by the kubelet before it creates a container.
package images

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	clientref "k8s.io/client-go/tools/reference"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
)

// The reasons of a container that waits for its image.
const (
	ErrImagePull      = "ErrImagePull"
	ImagePullBackOff  = "ImagePullBackOff"
	ErrImageNeverPull = "ErrImageNeverPull"
	InvalidImageName  = "InvalidImageName"
	ImageInspectError = "ImageInspectError"
)

// Error is why an image is not there, as the container's waiting state shows it.
type Error struct{ Reason, Message string }

func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// Config of a Manager.
type Config struct {
	Images   runtimeapi.ImageServiceClient
	Secret   func(ctx context.Context, namespace, name string) (*corev1.Secret, error) // for imagePullSecrets; nil: none
	Recorder record.EventRecorder                                                      // optional
	Parallel int                                                                       // pulls at a time; 0: no limit, 1: one after the other
	Log      *slog.Logger                                                              // optional
	Clock    clock.PassiveClock                                                        // optional
}

// Manager pulls images. Its methods may be called at the same time.
type Manager struct {
	cfg   Config
	pulls singleflight.Group
	slots chan struct{} // nil: no limit

	mu      sync.Mutex
	backoff map[string]failure   // by pod uid and image
	used    map[string]time.Time // image id -> last seen in use
}

type failure struct {
	wait  time.Duration
	since time.Time
	err   string
}

const (
	firstWait = 10 * time.Second
	lastWait  = 300 * time.Second
)

// New starts nothing; there is nothing to run.
func New(cfg Config) (*Manager, error) {
	if cfg.Images == nil {
		return nil, errors.New("images: no image service")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	m := &Manager{cfg: cfg, backoff: map[string]failure{}, used: map[string]time.Time{}}
	if cfg.Parallel > 0 {
		m.slots = make(chan struct{}, cfg.Parallel)
	}
	return m, nil
}

// Ensure returns the runtime's reference of the container's image, pulling it as its policy says.
// The error is an *Error, or ctx's.
func (m *Manager) Ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	image, err := withTag(c.Image)
	if err != nil {
		text := fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err)
		m.event(pod, c, corev1.EventTypeWarning, "InspectFailed", text)
		return "", &Error{InvalidImageName, text}
	}
	ref, err := m.present(ctx, image)
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		text := fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)
		m.event(pod, c, corev1.EventTypeWarning, "InspectFailed", text)
		return "", &Error{ImageInspectError, text}
	}
	policy := pullPolicy(c, image)
	if ref != "" && policy != corev1.PullAlways {
		m.event(pod, c, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return ref, nil
	}
	if policy == corev1.PullNever {
		text := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		m.event(pod, c, corev1.EventTypeWarning, ErrImageNeverPull, text)
		return "", &Error{ErrImageNeverPull, text}
	}
	return m.pullOrWait(ctx, pod, c, image, sandbox)
}

// pullOrWait pulls unless the last failure is too recent.
func (m *Manager) pullOrWait(ctx context.Context, pod *corev1.Pod, c *corev1.Container, image string, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	key := string(pod.UID) + "_" + image
	m.mu.Lock()
	last, failed := m.backoff[key]
	m.mu.Unlock()
	if failed && m.cfg.Clock.Since(last.since) < last.wait {
		text := fmt.Sprintf("Back-off pulling image %q", c.Image)
		m.event(pod, c, corev1.EventTypeNormal, "BackOff", text)
		return "", &Error{ImagePullBackOff, text + ": " + ErrImagePull + ": " + last.err}
	}
	m.event(pod, c, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	got, err := m.pull(ctx, pod, image, sandbox)
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		m.failed(key, err)
		m.event(pod, c, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %v", c.Image, err))
		return "", &Error{ErrImagePull, err.Error()}
	}
	m.mu.Lock()
	delete(m.backoff, key)
	m.mu.Unlock()
	m.event(pod, c, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		c.Image, got.took.Truncate(time.Millisecond), got.waited.Truncate(time.Millisecond), got.size))
	return got.ref, nil
}

func (m *Manager) failed(key string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wait := firstWait
	now := m.cfg.Clock.Now()
	if last, ok := m.backoff[key]; ok && now.Sub(last.since) < 2*lastWait {
		wait = min(2*last.wait, lastWait)
	}
	for k, f := range m.backoff { // what is long over holds no memory
		if now.Sub(f.since) > 2*lastWait {
			delete(m.backoff, k)
		}
	}
	m.backoff[key] = failure{wait: wait, since: now, err: err.Error()}
}

// RetryAfter tells how long the pod's image is left alone; 0: not at all.
func (m *Manager) RetryAfter(pod *corev1.Pod, c *corev1.Container) time.Duration {
	image, err := withTag(c.Image)
	if err != nil {
		return lastWait
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.backoff[string(pod.UID)+"_"+image]
	if !ok {
		return 0
	}
	return max(0, f.wait-m.cfg.Clock.Since(f.since))
}

// present is the runtime's reference of an image that is here, else empty.
func (m *Manager) present(ctx context.Context, image string) (string, error) {
	got, err := m.cfg.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		return "", fmt.Errorf("ask for image: %w", err)
	}
	return got.GetImage().GetId(), nil
}

// event speaks of one container of the pod.
func (m *Manager) event(pod *corev1.Pod, c *corev1.Container, kind, reason, text string) {
	if m.cfg.Recorder == nil {
		return
	}
	ref, err := clientref.GetReference(scheme.Scheme, pod)
	if err != nil {
		m.cfg.Log.Error("refer to pod", "err", err)
		return
	}
	if c.Name != "" { // else it is a volume's
		ref.FieldPath = "spec." + listOf(pod, c.Name) + "{" + c.Name + "}"
	}
	m.cfg.Recorder.Event(ref, kind, reason, text)
}

func listOf(pod *corev1.Pod, container string) string {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			return "initContainers"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == container {
			return "ephemeralContainers"
		}
	}
	return "containers"
}

// withTag checks an image name and adds :latest where it has neither tag nor digest.
func withTag(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", image, err)
	}
	_, tagged := named.(reference.Tagged)
	_, digested := named.(reference.Digested)
	if !tagged && !digested {
		return image + ":latest", nil
	}
	return image, nil
}

func pullPolicy(c *corev1.Container, image string) corev1.PullPolicy {
	if c.ImagePullPolicy != "" {
		return c.ImagePullPolicy
	}
	if strings.HasSuffix(image, ":latest") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}
