// Package cgroups makes the control groups of pods below one root that the caller owns:
// root/kubepods[/burstable|/besteffort]/pod<uid>, on cgroup v2, v1 and hybrids of both.
//
// The one idea: a pod's group is written from the pod's spec alone and can be written again
// at any time; containers' groups inside it are the runtime's. The kubelet alone calls it.
package cgroups

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/internal/pidfd"
)

// Config of the pods' groups.
type Config struct {
	Root  string // below every hierarchy, such as "/proa/default/node1"
	Mount string // where hierarchies are mounted; default /sys/fs/cgroup
	Pids  int64  // most processes in a pod; 0: no limit
	Log   *slog.Logger
}

// Groups makes and removes pods' groups.
type Groups struct {
	Config
	unified     bool
	hierarchies []string // v1: the controllers' folders that exist
}

// used are the v1 controllers a pod's group is made under; those only a runtime needs too.
var used = []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer", "hugetlb", "net_cls", "net_prio", "perf_event", "systemd"}

// New finds out which hierarchies there are. It changes nothing.
func New(cfg Config) (*Groups, error) {
	if cfg.Root == "" || cfg.Root[0] != '/' {
		return nil, fmt.Errorf("cgroup root %q: must be an absolute path", cfg.Root)
	}
	if cfg.Mount == "" {
		cfg.Mount = "/sys/fs/cgroup"
	}
	g := &Groups{Config: cfg}
	if _, err := os.Stat(filepath.Join(cfg.Mount, "cgroup.controllers")); err == nil {
		g.unified = true
		return g, nil
	}
	seen := map[string]bool{}
	for _, name := range used {
		dir := filepath.Join(cfg.Mount, name)
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[real] {
			continue
		}
		if _, err := os.Stat(filepath.Join(real, "cgroup.procs")); err != nil {
			continue
		}
		seen[real] = true
		g.hierarchies = append(g.hierarchies, name)
	}
	if len(g.hierarchies) == 0 {
		return nil, fmt.Errorf("no cgroup hierarchy below %s", cfg.Mount)
	}
	return g, nil
}

// Path is the group of a pod below every hierarchy, as the runtime wants it (cgroupfs driver).
func (g *Groups) Path(uid types.UID, class corev1.PodQOSClass) string {
	return filepath.Join(g.Root, "kubepods", folder(class), "pod"+string(uid))
}

func folder(class corev1.PodQOSClass) string {
	switch class {
	case corev1.PodQOSBurstable:
		return "burstable"
	case corev1.PodQOSBestEffort:
		return "besteffort"
	}
	return ""
}

// Ensure makes or corrects a pod's group and answers its path.
func (g *Groups) Ensure(uid types.UID, class corev1.PodQOSClass, l Limits) (string, error) {
	path := g.Path(uid, class)
	l.Pids = g.Pids
	if g.unified {
		return path, g.ensureUnified(path, l)
	}
	return path, g.ensureEach(path, l)
}

func (g *Groups) ensureEach(path string, l Limits) error {
	for _, h := range g.hierarchies {
		dir := filepath.Join(g.Mount, h, path)
		_, err := os.Stat(dir)
		if fresh := err != nil; fresh {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make cgroup: %w", err)
			}
		}
		if h == "cpuset" {
			if err := fillCpuset(filepath.Join(g.Mount, h), path); err != nil {
				return err
			}
		}
		for _, w := range l.v1(h) {
			if err := write(filepath.Join(dir, w.file), w.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillCpuset gives each level its parent's processors and memory nodes: a v1 cpuset group
// begins empty and takes no process.
func fillCpuset(mount, path string) error {
	dir := mount
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		parent := dir
		dir = filepath.Join(dir, part)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return fmt.Errorf("read cpuset: %w", err)
			}
			if strings.TrimSpace(string(have)) != "" {
				continue
			}
			from, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil {
				return fmt.Errorf("read cpuset: %w", err)
			}
			if err := write(filepath.Join(dir, file), strings.TrimSpace(string(from))); err != nil {
				return err
			}
		}
	}
	return nil
}

// ensureUnified makes the group and hands the controllers down each level above it.
func (g *Groups) ensureUnified(path string, l Limits) error {
	dir := g.Mount
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		if err := g.handDown(dir); err != nil {
			return err
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	for _, w := range l.v2() {
		if err := write(filepath.Join(dir, w.file), w.value); err != nil {
			return err
		}
	}
	return nil
}

func (g *Groups) handDown(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read cgroup controllers: %w", err)
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read cgroup subtree: %w", err)
	}
	active := " " + strings.TrimSpace(string(on)) + " "
	for _, c := range strings.Fields(string(have)) {
		if !strings.Contains(active, " "+c+" ") {
			if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
				return err
			}
		}
	}
	return nil
}

func write(file, value string) error {
	err := os.WriteFile(file, []byte(value), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without this knob
	}
	if err != nil {
		return fmt.Errorf("write %s to %s: %w", value, file, err)
	}
	return nil
}

// Remove kills what is left in a pod's group and removes it with its children. A group that
// is not there is no error.
func (g *Groups) Remove(ctx context.Context, uid types.UID) error {
	var all error
	for _, class := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		path := g.Path(uid, class)
		for _, top := range g.tops() {
			all = errors.Join(all, removeTree(ctx, filepath.Join(top, path)))
		}
	}
	return all
}

func (g *Groups) tops() []string {
	if g.unified {
		return []string{g.Mount}
	}
	out := make([]string, 0, len(g.hierarchies))
	for _, h := range g.hierarchies {
		out = append(out, filepath.Join(g.Mount, h))
	}
	return out
}

// removing bounds the wait for killed processes to leave a group.
const (
	removeTries = 50
	removeWait  = 10 * time.Millisecond
)

func removeTree(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(ctx, filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for range removeTries {
		err = syscall.Rmdir(dir)
		if err == nil || errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if err := killAll(dir); err != nil {
			return fmt.Errorf("empty cgroup %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(removeWait):
		}
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

// killAll kills what is in a group, and never what has only the number of a process that was.
func killAll(dir string) error {
	var all error
	for _, p := range pidfd.Members(func() []int { return pidfd.InGroup(dir) }) {
		all = errors.Join(all, p.Signal(syscall.SIGKILL))
		p.Close()
	}
	return all
}

// Pods lists the pods that have a group.
func (g *Groups) Pods() []types.UID {
	seen := map[types.UID]bool{}
	var out []types.UID
	for _, top := range g.tops() {
		for _, class := range []string{"", "burstable", "besteffort"} {
			entries, err := os.ReadDir(filepath.Join(top, g.Root, "kubepods", class))
			if err != nil {
				continue
			}
			for _, e := range entries {
				uid, ok := strings.CutPrefix(e.Name(), "pod")
				if ok && e.IsDir() && !seen[types.UID(uid)] {
					seen[types.UID(uid)] = true
					out = append(out, types.UID(uid))
				}
			}
		}
	}
	return out
}

// Version is 2 where one hierarchy has all controllers, otherwise 1.
func (g *Groups) Version() int {
	if g.unified {
		return 2
	}
	return 1
}
