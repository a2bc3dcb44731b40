package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// check refuses changes whose undoing could reach beyond what is ours: undoing removes
// trees and ends processes, so a name must be absolute, clean and at least one folder deep.
func check(c Change) error {
	if c.Name == "" || strings.ContainsAny(c.Name, "\n\x00") {
		return fmt.Errorf("%s %q: not a name", c.Kind, c.Name)
	}
	depth := strings.Count(c.Name, "/")
	clean := filepath.IsAbs(c.Name) && filepath.Clean(c.Name) == c.Name
	switch c.Kind {
	case Path, Mounts, Process, Netns:
		if !clean || depth < 2 {
			return fmt.Errorf("%s %q: must be an absolute path below a folder", c.Kind, c.Name)
		}
	case Cgroup:
		if !clean || c.Name == "/" {
			return fmt.Errorf("cgroup %q: must be a path below the root group", c.Name)
		}
	case Link:
		if strings.HasPrefix(c.Name, "*") || strings.Contains(c.Name, "/") {
			return fmt.Errorf("link %q: not a link's name or prefix", c.Name)
		}
	case Sysctl:
		if strings.Contains(c.Name, "..") || strings.HasPrefix(c.Name, "/") {
			return fmt.Errorf("sysctl %q: not a key", c.Name)
		}
	case Route, Rule, Table, Module, MountOption:
	default:
		return fmt.Errorf("unknown kind of change %q", c.Kind)
	}
	return nil
}

// undo undoes one change and says what it did, or nothing when there was nothing to do.
// A Link or Netns name that ends in "*" means all that begin so.
func undo(ctx context.Context, c Change) (string, error) {
	if c.Netns != "" {
		if _, err := os.Stat(c.Netns); errors.Is(err, fs.ErrNotExist) {
			return "", nil // the namespace took everything in it along
		}
	}
	switch c.Kind {
	case Link:
		return undoLink(c)
	case Route:
		return undoRoute(c)
	case Rule:
		return undoRule(c)
	case Table:
		return undoTable(c)
	case Netns:
		return undoNetns(c.Name)
	case Mounts:
		return undoMounts(c.Name)
	case Cgroup:
		return undoCgroup(ctx, c.Name)
	case Sysctl:
		return undoSysctl(c)
	case Path:
		return undoPath(c.Name)
	case Process:
		return undoProcess(ctx, c.Name)
	case MountOption:
		return undoMountOption(c)
	case Module:
		return "", nil
	}
	return "", fmt.Errorf("unknown kind of change %q", c.Kind)
}

// undoPath removes a tree of ours; one with something mounted in it is left alone, for the
// mounted files are somebody's data.
func undoPath(path string) (string, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	mounted, err := mountsBelow(path)
	if err != nil {
		return "", err
	}
	if len(mounted) > 0 {
		return "", fmt.Errorf("%s is still mounted", mounted[0])
	}
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return "removed " + path, nil
}

func undoSysctl(c Change) (string, error) {
	key := c.Name
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	path := filepath.Join("/proc/sys", key)
	done := ""
	err := inNetns(c.Netns, func() error {
		now, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // its link is gone
		}
		if err != nil || strings.TrimSpace(string(now)) == strings.TrimSpace(c.Before) {
			return err
		}
		done = "set " + c.Name + " back to " + c.Before
		return os.WriteFile(path, []byte(c.Before), 0)
	})
	return done, err
}
