package volumes

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// content is one file of a volume.
type content struct {
	data []byte
	mode fs.FileMode
	user *int64 // owner, if not root
}

// files are the files of a volume by slash-separated path.
type files map[string]content

const (
	dataLink = "..data"
	newLink  = "..data_tmp"
)

// writeAtomic makes the folder show exactly these files, all at once for who reads through ..data:
//
//	..2026_01_02_15_04_05.x1y2/   the files themselves
//	..data -> that folder         replaced by one rename
//	a, b -> ..data/a, ..data/b    one link for each first path element
//
// Files equal to those shown are left alone. Paths cannot lead out of the folder.
func writeAtomic(dir *os.Root, want files, group *int64) error {
	for p := range want {
		if err := checkPath(p); err != nil {
			return errPermanent{err}
		}
	}
	old, err := dir.Readlink(dataLink)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read current data: %w", err)
	}
	if old != "" {
		same, err := shown(dir, old, want)
		if err != nil {
			return err
		}
		if same {
			return link(dir, want)
		}
	}
	now, err := writeFiles(dir, want, group)
	if err != nil {
		return errors.Join(err, dir.RemoveAll(now))
	}
	if err := dir.Remove(newLink); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale link: %w", err)
	}
	if err := dir.Symlink(now, newLink); err != nil {
		return fmt.Errorf("link new data: %w", err)
	}
	if err := dir.Rename(newLink, dataLink); err != nil {
		return fmt.Errorf("show new data: %w", err)
	}
	if err := link(dir, want); err != nil {
		return err
	}
	return sweep(dir, want, now)
}

// writeFiles writes into a new folder and returns its name, also with an error.
func writeFiles(dir *os.Root, want files, group *int64) (string, error) {
	name := ".." + time.Now().UTC().Format("2006_01_02_15_04_05") + "." + rand.Text()[:10]
	if err := dir.Mkdir(name, 0o755); err != nil {
		return name, fmt.Errorf("make data folder: %w", err)
	}
	made := map[string]bool{}
	for p, c := range want {
		full := path.Join(name, p)
		for _, parent := range parents(name, p) {
			if made[parent] {
				continue
			}
			made[parent] = true
			if parent != name {
				if err := dir.Mkdir(parent, 0o755); err != nil {
					return name, fmt.Errorf("make folder: %w", err)
				}
			}
			if err := settle(dir, parent, 0o755, nil, group); err != nil {
				return name, err
			}
		}
		if err := dir.WriteFile(full, c.data, 0o600); err != nil {
			return name, fmt.Errorf("write %s: %w", p, err)
		}
		if err := settle(dir, full, c.mode, c.user, group); err != nil {
			return name, err
		}
	}
	if !made[name] {
		return name, settle(dir, name, 0o755, nil, group)
	}
	return name, nil
}

// settle sets mode and owner whatever the umask.
func settle(dir *os.Root, p string, mode fs.FileMode, user, group *int64) error {
	if err := dir.Chmod(p, mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	if user != nil {
		if err := dir.Lchown(p, int(*user), -1); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
	}
	if group != nil {
		return own(dir, p, *group, 0o440)
	}
	return nil
}

// parents lists the folders above p, from top, below and with the folder base.
func parents(base, p string) []string {
	out := []string{base}
	for i, r := range p {
		if r == '/' {
			out = append(out, path.Join(base, p[:i]))
		}
	}
	return out
}

// shown tells whether the folder now shown has exactly these files.
func shown(dir *os.Root, current string, want files) (bool, error) {
	n := 0
	same := true
	err := fs.WalkDir(dir.FS(), current, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		c, ok := want[strings.TrimPrefix(p, current+"/")]
		if !ok {
			same = false
			return fs.SkipAll
		}
		data, err := dir.ReadFile(p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !bytes.Equal(data, c.data) || info.Mode().Perm()&c.mode.Perm() != c.mode.Perm() {
			same = false
			return fs.SkipAll
		}
		return nil
	})
	if errors.Is(err, os.ErrNotExist) { // the folder was taken away; write it anew
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("compare with current data: %w", err)
	}
	return same && n == len(want), nil
}

// link makes the links that users see.
func link(dir *os.Root, want files) error {
	for p := range want {
		top, _, _ := strings.Cut(p, "/")
		target := dataLink + "/" + top
		if at, err := dir.Readlink(top); err == nil && at == target {
			continue
		}
		err := dir.Symlink(target, top)
		if errors.Is(err, os.ErrExist) {
			if at, rerr := dir.Readlink(top); rerr == nil && at == target {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("link %s: %w", top, err)
		}
	}
	return nil
}

// sweep removes links that nothing is behind any more, and every older data folder.
func sweep(dir *os.Root, want files, now string) error {
	keep := map[string]bool{dataLink: true, now: true}
	for p := range want {
		top, _, _ := strings.Cut(p, "/")
		keep[top] = true
	}
	f, err := dir.Open(".")
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	for _, name := range names {
		if keep[name] {
			continue
		}
		if err := dir.RemoveAll(name); err != nil {
			return fmt.Errorf("remove old data: %w", err)
		}
	}
	return nil
}

// checkPath refuses paths that are not plain, relative and below the folder.
func checkPath(p string) error {
	switch {
	case p == "":
		return errors.New("invalid path: must not be empty")
	case path.IsAbs(p):
		return fmt.Errorf("invalid path: must be relative path: %s", p)
	case len(p) > 4096:
		return fmt.Errorf("invalid path: must be less than or equal to 4096 characters")
	}
	items := strings.Split(p, "/")
	if slices.Contains(items, "..") {
		return fmt.Errorf("invalid path: must not contain '..': %s", p)
	}
	if strings.HasPrefix(items[0], "..") {
		return fmt.Errorf("invalid path: must not start with '..': %s", p)
	}
	for _, item := range items {
		if len(item) > 255 {
			return fmt.Errorf("invalid path: filenames must be less than or equal to 255 characters")
		}
	}
	if path.Clean(p) != p {
		return fmt.Errorf("invalid path: %s", p)
	}
	return nil
}
