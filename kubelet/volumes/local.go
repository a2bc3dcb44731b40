package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// localPath is the folder of a local volume. Directly below our own folder of such volumes,
// where the control plane puts them, it is made if it is not there yet: for all users of
// the pod, since who may write is not known; above it only root may pass.
func (m *Manager) localPath(l *corev1.LocalVolumeSource) (string, error) {
	path := filepath.Clean(l.Path)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, os.ErrNotExist) || m.cfg.Local == "" || filepath.Dir(path) != filepath.Clean(m.cfg.Local) {
		return "", fmt.Errorf("path %q does not exist", path)
	}
	if err := os.MkdirAll(m.cfg.Local, 0o700); err != nil {
		return "", fmt.Errorf("make folder of local volumes: %w", err)
	}
	if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make local volume: %w", err)
	}
	if err := os.Chmod(path, 0o777); err != nil { // whatever the umask
		return "", fmt.Errorf("open local volume to its users: %w", err)
	}
	return path, nil
}

// RemoveLocal removes the folder of a local volume with all that is in it. One that is not
// there is no error. What is mounted somewhere below it is never touched.
func (m *Manager) RemoveLocal(name string) error {
	if m.cfg.Local == "" {
		return errors.New("this node has no local volumes")
	}
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return fmt.Errorf("%q is not the name of a volume", name)
	}
	root, err := os.OpenRoot(m.cfg.Local)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open folder of local volumes: %w", err)
	}
	defer root.Close()
	real, err := filepath.EvalSymlinks(m.cfg.Local) // the kernel's table has no links
	if err != nil {
		return fmt.Errorf("resolve folder of local volumes: %w", err)
	}
	at, err := mountsBelow(filepath.Join(real, name))
	if err != nil {
		return err
	}
	if len(at) > 0 {
		return fmt.Errorf("local volume %s: %s is still mounted", name, at[0])
	}
	if err := root.RemoveAll(name); err != nil {
		return fmt.Errorf("remove local volume: %w", err)
	}
	return nil
}
