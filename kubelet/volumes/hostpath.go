package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// hostPath checks the path on this machine as its type asks, and makes it for the OrCreate types.
func hostPath(h *corev1.HostPathVolumeSource) (string, error) {
	path := filepath.Clean(h.Path)
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	if kind == corev1.HostPathUnset {
		return path, nil
	}
	info, err := os.Stat(path)
	missing := errors.Is(err, os.ErrNotExist)
	if err != nil && !missing && !errors.Is(err, syscall.ENOTDIR) {
		return "", fmt.Errorf("hostPath type check failed: %w", err)
	}
	switch {
	case missing && kind == corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(path, 0o755); err != nil {
			return "", fmt.Errorf("make hostPath folder: %w", err)
		}
		return path, nil
	case missing && kind == corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err != nil {
			return "", fmt.Errorf("make hostPath file: %w", err)
		}
		return path, f.Close()
	}
	var mode os.FileMode
	if info != nil {
		mode = info.Mode()
	}
	want, ok := hostPathTypes[kind]
	if !ok {
		return "", errPermanent{fmt.Errorf("%s is an invalid volume type", kind)}
	}
	if info == nil || !want.is(mode) {
		return "", fmt.Errorf("hostPath type check failed: %s is not a %s", path, want.name)
	}
	return path, nil
}

type pathType struct {
	name string
	is   func(os.FileMode) bool
}

var (
	directory = pathType{"directory", os.FileMode.IsDir}
	file      = pathType{"file", os.FileMode.IsRegular}
)

var hostPathTypes = map[corev1.HostPathType]pathType{
	corev1.HostPathDirectory:         directory,
	corev1.HostPathDirectoryOrCreate: directory,
	corev1.HostPathFile:              file,
	corev1.HostPathFileOrCreate:      file,
	corev1.HostPathSocket:            {"socket file", func(m os.FileMode) bool { return m&os.ModeSocket != 0 }},
	corev1.HostPathCharDev:           {"character device", func(m os.FileMode) bool { return m&os.ModeCharDevice != 0 }},
	corev1.HostPathBlockDev: {"block device", func(m os.FileMode) bool {
		return m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0
	}},
}
