// Package fakecri is a container runtime in memory behind a real CRI socket, for tests: its
// containers run until they are told to exit, and every call is counted.
package fakecri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime is a fake container runtime.
type Runtime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	// OnExec answers ExecSync; nil: exit 0.
	OnExec func(id string, cmd []string) (string, int32)
	// Stubborn containers, by name, ignore the stop signal.
	Stubborn map[string]bool

	mu         sync.Mutex
	next       int
	sandboxes  map[string]*runtimeapi.PodSandboxStatus
	containers map[string]*container
	watchers   map[chan *runtimeapi.ContainerEventResponse]bool
	calls      map[string]int
	configs    map[string]*runtimeapi.PodSandboxConfig
	failures   map[string]error // by call
}

type container struct {
	sandbox string
	config  *runtimeapi.ContainerConfig
	status  *runtimeapi.ContainerStatus
	exited  chan struct{}
}

// Start serves a runtime on a socket until the test ends and answers its path.
func Start(t testing.TB) (*Runtime, string) {
	r := &Runtime{sandboxes: map[string]*runtimeapi.PodSandboxStatus{}, containers: map[string]*container{}, calls: map[string]int{},
		watchers: map[chan *runtimeapi.ContainerEventResponse]bool{}, configs: map[string]*runtimeapi.PodSandboxConfig{}, Stubborn: map[string]bool{}, failures: map[string]error{}}
	path := filepath.Join(t.TempDir(), "cri.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(s, r)
	runtimeapi.RegisterImageServiceServer(s, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return r, path
}

// Calls answers how often an RPC was called.
func (r *Runtime) Calls(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[name]
}

// Fail makes an RPC fail; nil ends that.
func (r *Runtime) Fail(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[name] = err
}

func (r *Runtime) count(name string) error {
	r.calls[name]++
	return r.failures[name]
}

// Counts answers how many sandboxes and containers there are.
func (r *Runtime) Counts() (sandboxes, containers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sandboxes), len(r.containers)
}

// Config answers the configuration of the newest container of that name, nil for none.
func (r *Runtime) Config(name string) *runtimeapi.ContainerConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.find(name); c != nil {
		return c.config
	}
	return nil
}

func (r *Runtime) find(name string) *container {
	var best *container
	for _, c := range r.containers {
		if c.config.Metadata.Name == name && (best == nil || best.config.Metadata.Attempt < c.config.Metadata.Attempt) {
			best = c
		}
	}
	return best
}

// Exit ends the newest running container of that name; false when it does not run.
func (r *Runtime) Exit(name string, code int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(name)
	if c == nil || c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return false
	}
	r.exit(c, code)
	return true
}

func (r *Runtime) exit(c *container, code int32) {
	c.status.State, c.status.ExitCode, c.status.FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, code, time.Now().UnixNano()
	close(c.exited)
	r.tell(c.sandbox, c.status.Id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

// KillSandbox ends a pod's sandbox as a crash would.
func (r *Runtime) KillSandbox(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.sandboxes {
		if s.Metadata.Uid == uid && s.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			r.end(id)
			r.tell(id, id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
		}
	}
}

func (r *Runtime) end(id string) {
	s := r.sandboxes[id]
	s.State, s.Network = runtimeapi.PodSandboxState_SANDBOX_NOTREADY, nil
	for _, c := range r.containers {
		if c.sandbox == id && c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			r.exit(c, 137)
		}
	}
}

func (r *Runtime) tell(sandbox, id string, kind runtimeapi.ContainerEventType) {
	e := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: time.Now().UnixNano(), PodSandboxStatus: r.sandboxes[sandbox]}
	for w := range r.watchers {
		select {
		case w <- e:
		default:
		}
	}
}

// GetContainerEvents streams events.
func (r *Runtime) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s runtimeapi.RuntimeService_GetContainerEventsServer) error {
	w := make(chan *runtimeapi.ContainerEventResponse, 1000)
	r.mu.Lock()
	r.watchers[w] = true
	r.mu.Unlock()
	defer func() { r.mu.Lock(); delete(r.watchers, w); r.mu.Unlock() }()
	for {
		select {
		case e := <-w:
			if err := s.Send(&runtimeapi.ContainerEventResponse{ContainerId: e.ContainerId, PodSandboxStatus: &runtimeapi.PodSandboxStatus{
				Id: e.PodSandboxStatus.GetId(), Metadata: e.PodSandboxStatus.GetMetadata()}}); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

// Version of the fake.
func (r *Runtime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{RuntimeName: "fake", RuntimeVersion: "1"}, nil
}

// Status is good.
func (r *Runtime) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true}}}}, nil
}

// RunPodSandbox makes a sandbox with an address.
func (r *Runtime) RunPodSandbox(_ context.Context, in *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.count("RunPodSandbox"); err != nil {
		return nil, err
	}
	r.next++
	id := fmt.Sprintf("sandbox-%d", r.next)
	r.sandboxes[id] = &runtimeapi.PodSandboxStatus{Id: id, Metadata: in.Config.Metadata, Labels: in.Config.Labels, CreatedAt: time.Now().UnixNano(),
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: fmt.Sprintf("10.0.0.%d", r.next)}}
	r.configs[id] = in.Config
	r.tell(id, id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// StopPodSandbox ends a sandbox and what runs in it.
func (r *Runtime) StopPodSandbox(_ context.Context, in *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandboxes[in.PodSandboxId] != nil {
		r.end(in.PodSandboxId)
	}
	return &runtimeapi.StopPodSandboxResponse{}, r.count("StopPodSandbox")
}

// RemovePodSandbox removes a sandbox and its containers.
func (r *Runtime) RemovePodSandbox(_ context.Context, in *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandboxes[in.PodSandboxId] != nil {
		r.end(in.PodSandboxId)
	}
	delete(r.sandboxes, in.PodSandboxId)
	for id, c := range r.containers {
		if c.sandbox == in.PodSandboxId {
			delete(r.containers, id)
		}
	}
	return &runtimeapi.RemovePodSandboxResponse{}, r.count("RemovePodSandbox")
}

// PodSandboxStatus answers one sandbox.
func (r *Runtime) PodSandboxStatus(_ context.Context, in *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[in.PodSandboxId]
	if s == nil {
		return nil, status.Error(codes.NotFound, "no such sandbox")
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{Id: s.Id, Metadata: s.Metadata, State: s.State, CreatedAt: s.CreatedAt, Network: s.Network, Labels: s.Labels}}, nil
}

func matches(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// ListPodSandbox lists by labels.
func (r *Runtime) ListPodSandbox(_ context.Context, in *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range r.sandboxes {
		if matches(in.GetFilter().GetLabelSelector(), s.Labels) {
			out.Items = append(out.Items, &runtimeapi.PodSandbox{Id: s.Id, Metadata: s.Metadata, State: s.State, CreatedAt: s.CreatedAt, Labels: s.Labels})
		}
	}
	return out, r.count("ListPodSandbox")
}

// ListContainers lists by labels.
func (r *Runtime) ListContainers(_ context.Context, in *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	for _, c := range r.containers {
		if matches(in.GetFilter().GetLabelSelector(), c.config.Labels) {
			out.Containers = append(out.Containers, &runtimeapi.Container{Id: c.status.Id, PodSandboxId: c.sandbox, Metadata: c.config.Metadata, Labels: c.config.Labels,
				State: c.status.State, CreatedAt: c.status.CreatedAt})
		}
	}
	return out, nil
}

// ContainerStatus answers one container.
func (r *Runtime) ContainerStatus(_ context.Context, in *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[in.ContainerId]
	if c == nil {
		return nil, status.Error(codes.NotFound, "no such container")
	}
	s := c.status
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: s.Id, Metadata: s.Metadata, State: s.State, CreatedAt: s.CreatedAt,
		StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, ExitCode: s.ExitCode, Image: s.Image, ImageRef: s.ImageRef, Labels: s.Labels, Annotations: s.Annotations}}, nil
}

// CreateContainer makes a container.
func (r *Runtime) CreateContainer(_ context.Context, in *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.count("CreateContainer"); err != nil {
		return nil, err
	}
	r.next++
	id := fmt.Sprintf("container-%d", r.next)
	r.containers[id] = &container{sandbox: in.PodSandboxId, config: in.Config, exited: make(chan struct{}), status: &runtimeapi.ContainerStatus{Id: id,
		Metadata: in.Config.Metadata, CreatedAt: time.Now().UnixNano(), Image: in.Config.Image, ImageRef: "sha256:" + in.Config.Image.Image, Labels: in.Config.Labels, Annotations: in.Config.Annotations}}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

// StartContainer runs a container.
func (r *Runtime) StartContainer(_ context.Context, in *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[in.ContainerId]
	if c == nil {
		return nil, status.Error(codes.NotFound, "no such container")
	}
	if err := r.count("StartContainer"); err != nil {
		return nil, err
	}
	c.status.State, c.status.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now().UnixNano()
	r.tell(c.sandbox, in.ContainerId, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.StartContainerResponse{}, nil
}

// UpdateContainerResources only counts.
func (r *Runtime) UpdateContainerResources(context.Context, *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &runtimeapi.UpdateContainerResourcesResponse{}, r.count("UpdateContainerResources")
}

// StopContainer ends a container: at once, or after the timeout when it is stubborn.
func (r *Runtime) StopContainer(ctx context.Context, in *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[in.ContainerId]
	if err := r.count("StopContainer"); err != nil || c == nil || c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		r.mu.Unlock()
		return &runtimeapi.StopContainerResponse{}, err
	}
	stubborn := r.Stubborn[c.config.Metadata.Name]
	r.mu.Unlock()
	code := int32(143)
	if stubborn {
		code = 137
		select {
		case <-time.After(time.Duration(in.Timeout) * time.Second):
		case <-c.exited:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
		r.exit(c, code)
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

// RemoveContainer forgets a container.
func (r *Runtime) RemoveContainer(_ context.Context, in *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, in.ContainerId)
	return &runtimeapi.RemoveContainerResponse{}, r.count("RemoveContainer")
}

// ExecSync answers what Exec says.
func (r *Runtime) ExecSync(_ context.Context, in *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	r.mu.Lock()
	exec := r.OnExec
	err := r.count("ExecSync")
	r.mu.Unlock()
	if exec == nil || err != nil {
		return &runtimeapi.ExecSyncResponse{}, err
	}
	out, code := exec(in.ContainerId, in.Cmd)
	return &runtimeapi.ExecSyncResponse{Stdout: []byte(out), ExitCode: code}, nil
}

// ListImages has none.
func (r *Runtime) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	return &runtimeapi.ListImagesResponse{}, nil
}
