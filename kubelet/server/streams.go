package server

import (
	"fmt"
	"net/http"
	"net/url"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// target finds the pod that a request names, and with it the container's id when it names one.
func (s *Server) target(w http.ResponseWriter, r *http.Request) (pod *corev1.Pod, container string, ok bool) {
	pod, ok = s.cfg.Pods.Pod(r.PathValue("namespace"), r.PathValue("pod"))
	if uid := r.PathValue("uid"); !ok || uid != "" && pod.UID != types.UID(uid) {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return nil, "", false
	}
	name := r.PathValue("container")
	if name == "" {
		return pod, "", true
	}
	if container, ok = s.cfg.Pods.ContainerID(pod.UID, name, false); !ok {
		http.Error(w, fmt.Sprintf("container not found (%q)", name), http.StatusInternalServerError)
		return nil, "", false
	}
	return pod, container, true
}

// streams reads which streams a client wants; a terminal has no stderr of its own.
func streams(q url.Values) (in, out, errs, tty bool, err error) {
	in, out, errs, tty = q.Get("input") == "1", q.Get("output") == "1", q.Get("error") == "1", q.Get("tty") == "1"
	if tty {
		errs = false
	}
	if !in && !out && !errs {
		err = apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	return in, out, errs, tty, err
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	in, out, errs, tty, err := streams(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, id, ok := s.target(w, r)
	if !ok {
		return
	}
	got, err := s.cfg.Runtime.Exec(r.Context(), &runtimeapi.ExecRequest{ContainerId: id, Cmd: q["command"], Tty: tty, Stdin: in, Stdout: out, Stderr: errs})
	if err == nil && speaksV5(r) {
		s.translate(w, r, got.GetUrl(), wants{in, out, errs, tty})
		return
	}
	s.stream(w, r, got.GetUrl(), err)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	in, out, errs, tty, err := streams(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, id, ok := s.target(w, r)
	if !ok {
		return
	}
	if hasEnded(containerStatus(pod, r.PathValue("container")), id) {
		// As the runtime says a moment later. Attached now, a client would learn nothing;
		// refused, it reads the log.
		writeRuntimeError(w, status.Error(codes.Unknown, "container is in CONTAINER_EXITED state"))
		return
	}
	// The container's own terminal decides: a client cannot know better.
	if c, found := spec(pod, r.PathValue("container")); found && c.tty {
		tty, errs = true, false
	}
	got, err := s.cfg.Runtime.Attach(r.Context(), &runtimeapi.AttachRequest{ContainerId: id, Tty: tty, Stdin: in, Stdout: out, Stderr: errs})
	if err == nil && speaksV5(r) {
		s.translate(w, r, got.GetUrl(), wants{in, out, errs, tty})
		return
	}
	s.stream(w, r, got.GetUrl(), err)
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	ports, err := forwardPorts(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, _, ok := s.target(w, r)
	if !ok {
		return
	}
	id, ok := s.cfg.Pods.SandboxID(pod.UID)
	if !ok {
		http.Error(w, fmt.Sprintf("pod not found (%q)", pod.Name+"_"+pod.Namespace), http.StatusInternalServerError)
		return
	}
	got, err := s.cfg.Runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: id, Port: ports})
	if err == nil && wantsTunnel(r) {
		s.tunnel(w, r, got.GetUrl())
		return
	}
	s.stream(w, r, got.GetUrl(), err)
}

// stream passes the connection on to the runtime's own stream server, byte by byte.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, where string, err error) {
	if err != nil {
		writeRuntimeError(w, err)
		return
	}
	u, err := url.Parse(where)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		s.log.Error("the runtime answered no usable stream address", "path", r.URL.Path)
		http.Error(w, "the runtime answered no usable stream address", http.StatusInternalServerError)
		return
	}
	h := proxy.NewUpgradeAwareHandler(u, nil, false, true, answerer{s})
	h.UseLocationHost = true
	h.ServeHTTP(w, r)
}

// answerer answers for a runtime whose stream server cannot be reached.
type answerer struct{ s *Server }

func (a answerer) Error(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusInternalServerError
	if apierrors.IsBadRequest(err) {
		code = http.StatusBadRequest
	}
	a.s.log.Debug("stream failed", "path", r.URL.Path, "error", err)
	http.Error(w, err.Error(), code)
}

func writeRuntimeError(w http.ResponseWriter, err error) {
	st, _ := status.FromError(err)
	code := http.StatusInternalServerError
	switch st.Code() {
	case codes.NotFound:
		code = http.StatusNotFound
	case codes.ResourceExhausted:
		w.Header().Set("Retry-After", "1")
		code = http.StatusTooManyRequests
	}
	http.Error(w, err.Error(), code)
}
