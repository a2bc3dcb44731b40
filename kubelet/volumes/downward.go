package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func (m *Manager) downwardFiles(pod *corev1.Pod, out files, items []corev1.DownwardAPIVolumeFile, mode fs.FileMode) error {
	var errs []error
	for i := range items {
		item := &items[i]
		c := content{mode: mode}
		if item.Mode != nil {
			c.mode = fs.FileMode(*item.Mode) & fs.ModePerm
		}
		if err := checkPath(item.Path); err != nil {
			return errPermanent{err}
		}
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = fieldValue(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = m.resourceValue(pod, item.ResourceFieldRef)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.data = []byte(text)
		out[item.Path] = c
	}
	return errors.Join(errs...)
}

// fieldValue is the text of one of the fields that downward API volumes may show.
func fieldValue(pod *corev1.Pod, field string) (string, error) {
	if name, key, ok := subscript(field); ok {
		switch name {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
		return "", fmt.Errorf("fieldPath %q does not support subscript", field)
	}
	switch field {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", field)
}

// subscript splits name['key'].
func subscript(field string) (name, key string, ok bool) {
	rest, ok := strings.CutSuffix(field, "']")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "['")
}

// formatMap writes one key="value" a line, sorted by key.
func formatMap(m map[string]string) string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s=%s", k, strconv.Quote(m[k]))
	}
	return b.String()
}

// resourceValue is a request or limit of a container in units of the divisor, rounded up; a
// limit that is not set is the node's allocatable.
func (m *Manager) resourceValue(pod *corev1.Pod, ref *corev1.ResourceFieldSelector) (string, error) {
	c := findContainer(pod, ref.ContainerName)
	if c == nil {
		return "", fmt.Errorf("container %s not found", ref.ContainerName)
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	res := corev1.ResourceName(name)
	var q resource.Quantity
	var ok bool
	switch kind {
	case "limits":
		q, ok = c.Resources.Limits[res]
		if (!ok || q.IsZero()) && m.cfg.Allocatable != nil {
			q = m.cfg.Allocatable()[res]
		}
	case "requests":
		q = c.Resources.Requests[res]
	default:
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	return strconv.FormatInt(divide(q, divisor, res == corev1.ResourceCPU), 10), nil
}

func divide(q, divisor resource.Quantity, milli bool) int64 {
	a, b := q.Value(), divisor.Value()
	if milli {
		a, b = q.MilliValue(), divisor.MilliValue()
	}
	if b <= 0 {
		b = 1
	}
	n := a / b
	if a%b > 0 {
		n++
	}
	return n
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}
