package server

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/proa-dev/proa/kubelet/cri"
)

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	switch r.PathValue("check") {
	case "", "ping", "log", "syncloop":
		if _, err := w.Write([]byte("ok")); err != nil {
			s.log.Debug("answer not delivered", "error", err)
		}
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) configz(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, map[string]any{"kubeletconfig": s.cfg.Configz})
}

func (s *Server) pods(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, podList(s.cfg.Pods.Pods()))
}

func podList(pods []*corev1.Pod) *corev1.PodList {
	out := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: make([]corev1.Pod, 0, len(pods))}
	for _, p := range pods {
		out.Items = append(out.Items, *p) // encoded, never changed
	}
	return out
}

// runningPods tells what the runtime has, in the shape of pods.
func (s *Server) runningPods(w http.ResponseWriter, r *http.Request) {
	got, err := s.cfg.Runtime.ListContainers(r.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}})
	if err != nil {
		http.Error(w, fmt.Sprintf("list containers: %v", err), http.StatusInternalServerError)
		return
	}
	byUID := map[string]*corev1.Pod{}
	var pods []*corev1.Pod
	for _, c := range got.Containers {
		uid := c.Labels[cri.LabelPodUID]
		if uid == "" {
			continue
		}
		if byUID[uid] == nil {
			byUID[uid] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.Labels[cri.LabelNamespace], Name: c.Labels[cri.LabelPodName], UID: types.UID(uid)}}
			pods = append(pods, byUID[uid])
		}
		byUID[uid].Spec.Containers = append(byUID[uid].Spec.Containers, corev1.Container{Name: c.Labels[cri.LabelContainer], Image: c.GetImage().GetImage()})
	}
	s.writeJSON(w, podList(pods))
}

// part is what the server asks of a container's specification.
type part struct{ tty bool }

// spec finds a container of any sort by name.
func spec(pod *corev1.Pod, name string) (part, bool) {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return part{list[i].TTY}, true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if c := &pod.Spec.EphemeralContainers[i]; c.Name == name {
			return part{c.TTY}, true
		}
	}
	return part{}, false
}

const maxPorts = 64

// forwardPorts reads the ports that a WebSocket client names in the query; SPDY names them later.
func forwardPorts(q url.Values) ([]int32, error) {
	var out []int32
	for _, list := range append(q["port"], q["ports"]...) {
		for text := range strings.SplitSeq(list, ",") {
			n, err := strconv.ParseUint(text, 10, 16)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("unable to parse %q as a port", text)
			}
			if len(out) == maxPorts {
				return nil, fmt.Errorf("more than %d ports", maxPorts)
			}
			out = append(out, int32(n))
		}
	}
	return out, nil
}
