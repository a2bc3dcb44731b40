package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/proa-dev/proa/host"
)

// enterCgroup moves this process into a cgroup of the cluster, so that what it started can
// be found when it is gone: in the unified hierarchy, and where that is not all, in pids
// and memory.
func enterCgroup(journal host.Recorder, path string) error {
	const root = "/sys/fs/cgroup"
	if err := journal.Record(host.Change{Kind: host.Cgroup, Name: path}); err != nil {
		return err
	}
	trees := []string{root}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		trees = []string{filepath.Join(root, "pids"), filepath.Join(root, "memory")}
	}
	var errs []error
	for _, tree := range trees {
		dir := filepath.Join(tree, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("enter cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
