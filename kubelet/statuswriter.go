package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
)

// statusWriter writes pods' statuses, each in order, only what changed, until it is written.
type statusWriter struct {
	client kubernetes.Interface
	log    *slog.Logger
	hold   time.Duration // how long a passing status may wait: statusHold
	queue  workqueue.TypedRateLimitingInterface[types.UID]

	mu   sync.Mutex
	pods map[types.UID]*written
}

type written struct {
	namespace, name string
	want            *corev1.PodStatus
	have            *corev1.PodStatus // what the API server has, as far as we wrote it
	held            time.Duration     // how long want may wait
	drop            bool              // delete the pod once the status is written
}

const (
	statusWriters = 4
	// statusHold is how long a status that only tells of something under way may wait for the
	// one that follows it: a start or an end that goes well is then one write, not four.
	statusHold  = 150 * time.Millisecond
	statusRetry = 100 * time.Millisecond
	statusMost  = 10 * time.Second
)

func newStatusWriter(client kubernetes.Interface, log *slog.Logger) *statusWriter {
	return &statusWriter{client: client, log: log, hold: statusHold, pods: map[types.UID]*written{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](statusRetry, statusMost))}
}

// put asks for a status to be written.
func (s *statusWriter) put(pod *corev1.Pod, status *corev1.PodStatus) { s.add(pod, status, false, 0) }

// passing asks for a status to be written that the next one may overtake.
func (s *statusWriter) passing(pod *corev1.Pod, status *corev1.PodStatus) {
	s.add(pod, status, false, s.hold)
}

// drop asks for a status to be written, and for the pod to be deleted after it.
func (s *statusWriter) drop(pod *corev1.Pod, status *corev1.PodStatus) { s.add(pod, status, true, 0) }

func (s *statusWriter) add(pod *corev1.Pod, status *corev1.PodStatus, drop bool, hold time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[pod.UID]
	if p == nil {
		p = &written{namespace: pod.Namespace, name: pod.Name, have: &pod.Status}
		s.pods[pod.UID] = p
	}
	if !drop && p.held <= hold && equality.Semantic.DeepEqual(status, p.want) {
		return
	}
	p.want, p.drop, p.held = status, p.drop || drop, hold
	s.queue.AddAfter(pod.UID, hold)
}

func (s *statusWriter) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
}

func (s *statusWriter) run(ctx context.Context) error {
	var all sync.WaitGroup
	for range statusWriters {
		all.Go(func() {
			for s.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	s.queue.ShutDown()
	all.Wait()
	return nil
}

func (s *statusWriter) next(ctx context.Context) bool {
	uid, stop := s.queue.Get()
	if stop {
		return false
	}
	defer s.queue.Done(uid)
	if err := s.write(ctx, uid); err != nil && ctx.Err() == nil {
		s.log.Warn("write pod status", "uid", uid, "error", err)
		s.queue.AddRateLimited(uid)
		return true
	}
	s.queue.Forget(uid)
	return true
}

func (s *statusWriter) write(ctx context.Context, uid types.UID) error {
	s.mu.Lock()
	p := s.pods[uid]
	if p == nil {
		s.mu.Unlock()
		return nil
	}
	p.held = 0
	namespace, name, want, have, drop := p.namespace, p.name, p.want, p.have, p.drop
	s.mu.Unlock()
	patch, err := statusPatch(uid, have, want)
	if err != nil {
		return err
	}
	if patch != nil {
		_, err := s.client.CoreV1().Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // gone, or another pod of that name: its deletion is on its way to us
		}
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	p.have = want
	s.mu.Unlock()
	if !drop {
		return nil
	}
	zero := int64(0)
	err = s.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(uid))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// statusPatch is the difference of two statuses, bound to one pod; nil: none.
func statusPatch(uid types.UID, have, want *corev1.PodStatus) ([]byte, error) {
	if equality.Semantic.DeepEqual(have, want) {
		return nil, nil
	}
	old, err := json.Marshal(&corev1.Pod{Status: *have})
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	next, err := json.Marshal(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Status: *want})
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(old, next, &corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare statuses: %w", err)
	}
	return patch, nil
}
