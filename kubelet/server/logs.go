package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/proa-dev/proa/kubelet/logs"
)

func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	namespace, pod, name := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	options, previous, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	p, ok := s.cfg.Pods.Pod(namespace, pod)
	if !ok {
		http.Error(w, fmt.Sprintf("pod %q not found", pod), http.StatusNotFound)
		return
	}
	if _, ok := spec(p, name); !ok {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", name, pod), http.StatusNotFound)
		return
	}
	path, id, err := s.logFile(p, name, previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	options.Ended = func(ctx context.Context) bool { return s.ended(ctx, id) }
	if !options.Follow && hasEnded(containerStatus(p, name), id) && !s.ended(r.Context(), id) {
		// It has ended, and the runtime has yet to write its last lines.
		soon, cancel := context.WithTimeout(r.Context(), lastLines)
		defer cancel()
		r = r.WithContext(soon)
		options.Follow = true
	}
	if wsstream.IsWebSocketRequest(r) {
		s.logSocket(w, r, func(ctx context.Context, out io.Writer) error { return s.logs.Read(ctx, path, options, out) })
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := &flusher{w: w, flush: http.NewResponseController(w).Flush}
	if options.Follow {
		if err := out.flush(); err != nil { // the client learns at once that it is connected
			return
		}
	}
	if err := s.logs.Read(r.Context(), path, options, out); err != nil && r.Context().Err() == nil {
		if out.wrote {
			s.log.Debug("log not delivered", "pod", namespace+"/"+pod, "container", name, "error", err)
			return
		}
		http.Error(w, fmt.Sprintf("failed to read logs of container %q in pod %q: %v", name, pod, plainPath(err)), http.StatusBadRequest)
	}
}

// plainPath keeps the node's folders out of an answer.
func plainPath(err error) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}

// ended tells whether a container writes no more.
func (s *Server) ended(ctx context.Context, id string) bool {
	got, err := s.cfg.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return ctx.Err() == nil && isGone(err)
	}
	return got.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_EXITED
}

// logFile finds the file and the container that a request for logs means, or says why there is none.
func (s *Server) logFile(pod *corev1.Pod, name string, previous bool) (path, id string, err error) {
	st := containerStatus(pod, name)
	if previous && st != nil && st.State.Running == nil {
		// Between two runs the newest run is the last terminated one.
		if last := st.LastTerminationState.Terminated; last != nil {
			if newest, ok := s.cfg.Pods.ContainerID(pod.UID, name, false); ok && strings.HasSuffix(last.ContainerID, "://"+newest) {
				previous = false
			}
		}
	}
	path, ok := s.cfg.Pods.LogPath(pod.UID, name, previous)
	if ok {
		if id, ok = s.cfg.Pods.ContainerID(pod.UID, name, previous); ok {
			return path, id, nil
		}
	}
	if previous {
		return "", "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
	}
	return "", "", noLog(pod.Name, name, st)
}

// lastLines is how long the last lines of an ended container are waited for.
const lastLines = 3 * time.Second

// hasEnded tells whether a status says of the container of that id that it has ended. The
// runtime itself may say so only some 40 ms later, when it has cleaned up.
func hasEnded(st *corev1.ContainerStatus, id string) bool {
	if st == nil {
		return false
	}
	for _, state := range []corev1.ContainerState{st.State, st.LastTerminationState} {
		if state.Terminated != nil && strings.HasSuffix(state.Terminated.ContainerID, "://"+id) {
			return true
		}
	}
	return false
}

func noLog(pod, name string, st *corev1.ContainerStatus) error {
	switch {
	case st == nil:
		return fmt.Errorf("container %q in pod %q is not available", name, pod)
	case st.State.Terminated != nil, st.State.Waiting != nil && st.LastTerminationState.Terminated != nil:
		return fmt.Errorf("container %q in pod %q is terminated", name, pod)
	case st.State.Waiting != nil && st.State.Waiting.Reason == "ErrImagePull":
		return fmt.Errorf("container %q in pod %q is waiting to start: image can't be pulled", name, pod)
	case st.State.Waiting != nil && st.State.Waiting.Reason == "ImagePullBackOff":
		return fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", name, pod)
	case st.State.Waiting != nil:
		return fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod, st.State.Waiting.Reason)
	}
	return fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, pod)
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// logOptions reads a query; what the API server has checked is checked again.
func logOptions(q url.Values) (o logs.Options, previous bool, err error) {
	o.Tail = -1
	for name, to := range map[string]*bool{"follow": &o.Follow, "previous": &previous, "timestamps": &o.Timestamps} {
		if text := q.Get(name); text != "" {
			if *to, err = strconv.ParseBool(text); err != nil {
				return o, false, fmt.Errorf("%s: %q is neither true nor false", name, text)
			}
		}
	}
	var seconds int64
	for name, to := range map[string]*int64{"tailLines": &o.Tail, "limitBytes": &o.Limit, "sinceSeconds": &seconds} {
		if text := q.Get(name); text != "" {
			if *to, err = strconv.ParseInt(text, 10, 64); err != nil || *to < 0 || *to == 0 && name != "tailLines" {
				return o, false, fmt.Errorf("%s: %q is not a positive number", name, text)
			}
		}
	}
	if seconds > 0 {
		o.Since = time.Now().Add(-time.Duration(min(seconds, maxSince)) * time.Second)
	}
	if text := q.Get("sinceTime"); text != "" {
		if seconds > 0 {
			return o, false, errors.New("at most one of `sinceTime` or `sinceSeconds` may be specified")
		}
		if o.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return o, false, fmt.Errorf("sinceTime: %q is not a time as in RFC 3339", text)
		}
	}
	switch text := q.Get("stream"); text {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		o.Stream = strings.ToLower(text)
	default:
		return o, false, fmt.Errorf("stream: %q is not one of All, Stdout, Stderr", text)
	}
	return o, previous, nil
}

const maxSince = 100 * 365 * 24 * 3600 // seconds; more would overflow a duration

// flusher hands on each piece at once, which the reader has made large already.
type flusher struct {
	w     http.ResponseWriter
	flush func() error
	wrote bool
}

func (f *flusher) Write(p []byte) (int, error) {
	f.wrote = true
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.flush()
}
