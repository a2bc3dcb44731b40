// Package cri reads from a container runtime what the kubelet decides by: the sandboxes and
// containers of a pod, and a stream that tells which pod has changed.
//
// The one idea: events only say "look again"; the state is always asked for, so a lost or
// reordered event costs a look and nothing else. The kubelet alone calls it.
package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sort"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/plan"
)

// Labels on every sandbox and container, shared by every CRI user.
const (
	LabelPodName   = "io.kubernetes.pod.name"
	LabelNamespace = "io.kubernetes.pod.namespace"
	LabelPodUID    = "io.kubernetes.pod.uid"
	LabelContainer = "io.kubernetes.container.name"
)

// Annotations on containers: what must survive a restart of the node agent.
const (
	NoteHash              = "io.kubernetes.container.hash"
	NoteRestarts          = "io.kubernetes.container.restartCount"
	NoteTerminationPath   = "io.kubernetes.container.terminationMessagePath"
	NoteTerminationPolicy = "io.kubernetes.container.terminationMessagePolicy"
	NoteTerminationFile   = "io.proa.container.terminationMessageFile"
	NoteGrace             = "io.kubernetes.pod.terminationGracePeriod"
)

const maxMessage = 16 << 20

// Dial connects lazily to a runtime at a unix socket path or a "unix://" address.
func Dial(address string) (*grpc.ClientConn, error) {
	if len(address) > 0 && address[0] == '/' {
		address = "unix://" + address
	}
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("connect to runtime %s: %w", address, err)
	}
	return conn, nil
}

// Reader reads pods from a runtime.
type Reader struct {
	Runtime runtimeapi.RuntimeServiceClient
	Log     *slog.Logger
	Lost    func() // called when the event stream of Watch ended; nil: nobody asks
}

// IsNotFound tells whether the runtime does not know the thing asked for.
func IsNotFound(err error) bool { return status.Code(err) == codes.NotFound }

// Pod asks the runtime for everything it has of one pod. Of what is in the state in which it
// was known (nil: nothing was) the details are not asked for again: they do not change.
func (r *Reader) Pod(ctx context.Context, uid types.UID, known *plan.Observed) (*plan.Observed, error) {
	want := map[string]string{LabelPodUID: string(uid)}
	sandboxes, err := r.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{
		Filter: &runtimeapi.PodSandboxFilter{LabelSelector: want}})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes of pod %s: %w", uid, err)
	}
	out := &plan.Observed{}
	for _, s := range sandboxes.Items {
		got, err := r.sandbox(ctx, s, known)
		if err != nil {
			return nil, err
		}
		if got != nil {
			out.Sandboxes = append(out.Sandboxes, *got)
		}
	}
	if len(sandboxes.Items) > 0 {
		if err := r.containers(ctx, want, known, out); err != nil {
			return nil, err
		}
	}
	sortNewest(out)
	return out, nil
}

func (r *Reader) sandbox(ctx context.Context, s *runtimeapi.PodSandbox, known *plan.Observed) (*plan.Sandbox, error) {
	out := &plan.Sandbox{ID: s.Id, Attempt: s.GetMetadata().GetAttempt(), CreatedAt: time.Unix(0, s.CreatedAt)}
	if s.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		return out, nil
	}
	if have := known.SandboxByID(s.Id); have != nil && have.Ready && len(have.IPs) > 0 {
		return have, nil
	}
	got, err := r.Runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: s.Id})
	if IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status of sandbox %s: %w", s.Id, err)
	}
	out.Ready = got.GetStatus().GetState() == runtimeapi.PodSandboxState_SANDBOX_READY
	if net := got.GetStatus().GetNetwork(); net.GetIp() != "" {
		out.IPs = append(out.IPs, net.Ip)
		for _, more := range net.AdditionalIps {
			out.IPs = append(out.IPs, more.Ip)
		}
	}
	return out, nil
}

func (r *Reader) containers(ctx context.Context, want map[string]string, known, out *plan.Observed) error {
	list, err := r.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{
		Filter: &runtimeapi.ContainerFilter{LabelSelector: want}})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, c := range list.Containers {
		if have := known.ByID(c.Id); have != nil && have.State == state(c.State) && have.State != plan.Unknown {
			out.Containers = append(out.Containers, *have)
			continue
		}
		got, err := r.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.Id})
		if IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("status of container %s: %w", c.Id, err)
		}
		out.Containers = append(out.Containers, container(c.PodSandboxId, got.GetStatus()))
	}
	return nil
}

func container(sandbox string, s *runtimeapi.ContainerStatus) plan.Container {
	c := plan.Container{
		ID: s.GetId(), SandboxID: sandbox, Name: s.GetMetadata().GetName(), Attempt: s.GetMetadata().GetAttempt(),
		CreatedAt: stamp(s.GetCreatedAt()), StartedAt: stamp(s.GetStartedAt()), FinishedAt: stamp(s.GetFinishedAt()),
		ExitCode: s.GetExitCode(), Reason: s.GetReason(), Message: s.GetMessage(),
		Image: s.GetImage().GetImage(), ImageRef: s.GetImageRef(),
		Hash: s.GetAnnotations()[NoteHash], LogPath: s.GetLogPath(),
		Labels: s.GetLabels(), Notes: s.GetAnnotations(), State: state(s.GetState()),
	}
	if c.ImageRef == "" {
		c.ImageRef = s.GetImageId()
	}
	if u := s.GetUser().GetLinux(); u != nil {
		c.User = &plan.User{UID: u.Uid, GID: u.Gid, Groups: u.SupplementalGroups}
	}
	return c
}

func stamp(nanos int64) time.Time {
	if nanos <= 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

func state(s runtimeapi.ContainerState) plan.State {
	switch s {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		return plan.Created
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return plan.Running
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		return plan.Exited
	}
	return plan.Unknown
}

func sortNewest(o *plan.Observed) {
	sort.SliceStable(o.Sandboxes, func(i, j int) bool {
		a, b := o.Sandboxes[i], o.Sandboxes[j]
		if a.Attempt != b.Attempt {
			return a.Attempt > b.Attempt
		}
		return a.CreatedAt.After(b.CreatedAt)
	})
	sort.SliceStable(o.Containers, func(i, j int) bool {
		a, b := o.Containers[i], o.Containers[j]
		if a.Attempt != b.Attempt {
			return a.Attempt > b.Attempt
		}
		return a.CreatedAt.After(b.CreatedAt)
	})
}

// PodRef names a pod of which the runtime has something.
type PodRef struct {
	Namespace, Name string
	UID             types.UID
}

// Pods lists every pod of which the runtime has a sandbox.
func (r *Reader) Pods(ctx context.Context) ([]PodRef, error) {
	list, err := r.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	seen := map[types.UID]bool{}
	var out []PodRef
	for _, s := range list.Items {
		uid := types.UID(s.Labels[LabelPodUID])
		if uid == "" || seen[uid] {
			continue
		}
		seen[uid] = true
		out = append(out, PodRef{s.Labels[LabelNamespace], s.Labels[LabelPodName], uid})
	}
	return out, nil
}

// Fallback is how often pods are looked at with a runtime that has no event stream.
const Fallback = time.Second

// retry is the first and the longest wait between two tries to reach the runtime.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Watch calls changed with the pod of each runtime event, and relist once at each
// (re)connection, until ctx ends.
func (r *Reader) Watch(ctx context.Context, changed func(types.UID), relist func()) {
	wait := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := r.stream(ctx, changed, relist)
		if ctx.Err() != nil {
			return
		}
		if status.Code(err) == codes.Unimplemented {
			r.Log.Warn("the runtime has no event stream; looking at it every second")
			r.poll(ctx, relist)
			return
		}
		if time.Since(began) > retryMost {
			wait = retryFirst
		}
		if r.Lost != nil {
			r.Lost()
		}
		r.Log.Warn("runtime event stream ended", "error", err, "retry", wait)
		if !pause(ctx, wait) {
			return
		}
		wait = min(wait*2, retryMost)
	}
}

func (r *Reader) stream(ctx context.Context, changed func(types.UID), relist func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := r.Runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("open runtime event stream: %w", err)
	}
	relist()
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if uid := e.GetPodSandboxStatus().GetMetadata().GetUid(); uid != "" {
			changed(types.UID(uid))
		} else if len(e.ContainersStatuses) > 0 {
			changed(types.UID(e.ContainersStatuses[0].GetLabels()[LabelPodUID]))
		}
	}
}

func (r *Reader) poll(ctx context.Context, relist func()) {
	relist()
	for pause(ctx, Fallback) {
		relist()
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
