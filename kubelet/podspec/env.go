package podspec

import (
	"context"
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Objects gives the config maps and secrets that environments are made from.
type Objects interface {
	GetConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Variables is what a container's environment depends on beside its spec.
type Variables struct {
	Objects  Objects
	Services []*corev1.Service // of the pod's namespace, and default/kubernetes
	PodIPs   []string
	Node     *Node
}

// Env is a container's environment: services' variables, envFrom, then env, each seeing those before it.
func Env(ctx context.Context, pod *corev1.Pod, c *corev1.Container, v *Variables) ([]*runtimeapi.KeyValue, error) {
	e := &environment{pod: pod, c: c, Variables: v, values: map[string]string{}, services: map[string]string{}}
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	e.addServices(links)
	for i := range c.EnvFrom {
		if err := e.from(ctx, &c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		if err := e.add(ctx, &c.Env[i]); err != nil {
			return nil, err
		}
	}
	return e.list(), nil
}

type environment struct {
	*Variables
	pod      *corev1.Pod
	c        *corev1.Container
	values   map[string]string
	services map[string]string
}

func (e *environment) list() []*runtimeapi.KeyValue {
	for k, v := range e.services {
		if _, ok := e.values[k]; !ok {
			e.values[k] = v
		}
	}
	names := make([]string, 0, len(e.values))
	for k := range e.values {
		names = append(names, k)
	}
	sort.Strings(names)
	out := make([]*runtimeapi.KeyValue, 0, len(names))
	for _, k := range names {
		out = append(out, &runtimeapi.KeyValue{Key: k, Value: []byte(e.values[k])})
	}
	return out
}

func (e *environment) lookup(name string) (string, bool) {
	if v, ok := e.values[name]; ok {
		return v, true
	}
	v, ok := e.services[name]
	return v, ok
}

func (e *environment) from(ctx context.Context, src *corev1.EnvFromSource) error {
	data := map[string]string{}
	switch {
	case src.ConfigMapRef != nil:
		cm, err := e.Objects.GetConfigMap(ctx, e.pod.Namespace, src.ConfigMapRef.Name)
		if err != nil {
			return ifNeeded(err, src.ConfigMapRef.Optional)
		}
		for k, v := range cm.Data {
			data[k] = v
		}
	case src.SecretRef != nil:
		s, err := e.Objects.GetSecret(ctx, e.pod.Namespace, src.SecretRef.Name)
		if err != nil {
			return ifNeeded(err, src.SecretRef.Optional)
		}
		for k, v := range s.Data {
			data[k] = string(v)
		}
	}
	for k, v := range data {
		if name := src.Prefix + k; len(utilvalidation.IsRelaxedEnvVarName(name)) == 0 {
			e.values[name] = v
		}
	}
	return nil
}

func ifNeeded(err error, optional *bool) error {
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	return err
}

func (e *environment) add(ctx context.Context, v *corev1.EnvVar) error {
	if v.Value != "" || v.ValueFrom == nil {
		e.values[v.Name] = expand(v.Value, e.lookup)
		return nil
	}
	value, ok, err := e.value(ctx, v.ValueFrom)
	if err != nil {
		return err
	}
	if ok {
		e.values[v.Name] = value
	}
	return nil
}

func (e *environment) value(ctx context.Context, src *corev1.EnvVarSource) (string, bool, error) {
	switch {
	case src.FieldRef != nil:
		v, err := e.field(src.FieldRef.FieldPath)
		return v, true, err
	case src.ResourceFieldRef != nil:
		v, err := ResourceField(e.pod, e.c, src.ResourceFieldRef, e.Node.Capacity)
		return v, true, err
	case src.ConfigMapKeyRef != nil:
		ref := src.ConfigMapKeyRef
		cm, err := e.Objects.GetConfigMap(ctx, e.pod.Namespace, ref.Name)
		if err != nil {
			return "", false, ifNeeded(err, ref.Optional)
		}
		v, ok := cm.Data[ref.Key]
		if !ok && (ref.Optional == nil || !*ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, e.pod.Namespace, ref.Name)
		}
		return v, ok, nil
	case src.SecretKeyRef != nil:
		ref := src.SecretKeyRef
		s, err := e.Objects.GetSecret(ctx, e.pod.Namespace, ref.Name)
		if err != nil {
			return "", false, ifNeeded(err, ref.Optional)
		}
		v, ok := s.Data[ref.Key]
		if !ok && (ref.Optional == nil || !*ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, e.pod.Namespace, ref.Name)
		}
		return string(v), ok, nil
	}
	return "", false, nil
}

func (e *environment) field(path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return e.pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return e.pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return firstOf(e.Node.IPs), nil
	case "status.hostIPs":
		return strings.Join(e.Node.IPs, ","), nil
	case "status.podIP":
		return firstOf(e.PodIPs), nil
	case "status.podIPs":
		return strings.Join(e.PodIPs, ","), nil
	}
	return MetaField(e.pod, path)
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// MetaField reads a field of a pod's metadata as the downward API names it.
func MetaField(pod *corev1.Pod, path string) (string, error) {
	if what, key, ok := strings.Cut(path, "['"); ok && strings.HasSuffix(key, "']") {
		key = strings.TrimSuffix(key, "']")
		switch what {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

// addServices adds the variables of services: those of the API server always, those of the
// pod's namespace when linked.
func (e *environment) addServices(links bool) {
	for _, s := range e.Services {
		master := s.Namespace == "default" && s.Name == "kubernetes"
		own := links && s.Namespace == e.pod.Namespace
		if (!master && !own) || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		if _, taken := e.services[envName(s.Name)+"_SERVICE_HOST"]; taken && master && own {
			continue
		}
		e.service(s)
	}
}

func envName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

func (e *environment) service(s *corev1.Service) {
	name, ip := envName(s.Name), s.Spec.ClusterIP
	e.services[name+"_SERVICE_HOST"] = ip
	e.services[name+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i, p := range s.Spec.Ports {
		port := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			e.services[name+"_SERVICE_PORT_"+envName(p.Name)] = port
		}
		proto := string(p.Protocol)
		if proto == "" {
			proto = string(corev1.ProtocolTCP)
		}
		url := strings.ToLower(proto) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			e.services[name+"_PORT"] = url
		}
		prefix := name + "_PORT_" + port + "_" + strings.ToUpper(proto)
		e.services[prefix] = url
		e.services[prefix+"_PROTO"] = strings.ToLower(proto)
		e.services[prefix+"_PORT"] = port
		e.services[prefix+"_ADDR"] = ip
	}
}
